"""The recurrent policy once more, in plain loops over one sentence, from its equations."""

import torch


def run_layer(config, weights, reads, hidden, cell):
    """Hidden states after each of `reads`, and the last cell state."""
    states = []
    for read in reads:
        if config.cell == "lstm":
            pair = torch.lstm_cell(read[None], (hidden[None], cell[None]), *weights)
            hidden, cell = pair[0][0], pair[1][0]
        else:
            hidden = torch.gru_cell(read[None], hidden[None], *weights)[0]
        states.append(hidden)
    return states, cell


def layer_weights(module, layer, suffix=""):
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(module, f"{name}_l{layer}{suffix}") for name in names]


def encode(policy, source):
    """What every position is encoded as, and the first hidden and cell states of the decoder."""
    config, encoder = policy.config, policy.encoder
    values = source.values[0, : int(source.lengths[0])]
    if config.features:
        reads = list(values)
    else:
        values = values[:, None] if values.dim() == 1 else values
        tables = encoder.embedding.weight.split(list(config.factors))
        reads = [sum(tables[k][i] for k, i in enumerate(place)) for place in values.tolist()]
    zero = torch.zeros(config.hidden_size, dtype=reads[0].dtype)
    hiddens, cells = [], []
    for layer in range(config.layers):
        weights = layer_weights(encoder.layers, layer)
        states, cell = run_layer(config, weights, reads, zero, zero)
        hidden = states[-1]
        if config.bidirectional:
            weights = layer_weights(encoder.layers, layer, "_reverse")
            back, other = run_layer(config, weights, reads[::-1], zero, zero)
            hidden = torch.tanh(encoder.bridge(torch.cat([hidden, back[-1]])))
            cell = torch.tanh(encoder.bridge(torch.cat([cell, other])))
            states = [torch.cat(pair) for pair in zip(states, back[::-1], strict=True)]
        hiddens.append(hidden)
        cells.append(cell)
        reads = states
    return torch.stack(reads), hiddens, cells


def attend(policy, memory, query, position):
    """The attentional output of Luong et al. 2015, equation 5."""
    attention = policy.attention
    if policy.config.attention == "aligned":
        context = memory[position]
    else:
        keys = memory @ attention.key.weight.T
        if policy.config.attention == "general":
            scores = keys @ query
        else:
            scores = torch.tanh(attention.query(query) + keys) @ attention.weight.weight[0]
        context = scores.softmax(-1) @ memory
    return torch.tanh(attention.combine.weight @ torch.cat([context, query]))


def plain_scores(policy, source, tokens):
    """The scores after every prefix of `tokens`, of one sentence without padding."""
    config = policy.config
    memory, hiddens, cells = encode(policy, source)
    feed = torch.zeros(config.hidden_size, dtype=memory.dtype)
    found = []
    for position, token in enumerate(tokens):
        read = policy.embedding.weight[token]
        if config.input_feeding:
            read = torch.cat([read, feed])
        for layer, module in enumerate(policy.decoder.layers):
            states, cells[layer] = run_layer(
                config, layer_weights(module, 0), [read], hiddens[layer], cells[layer]
            )
            hiddens[layer] = read = states[0]
        output = read if policy.attention is None else attend(policy, memory, read, position)
        feed = output
        found.append(policy.output.weight @ output + policy.output.bias)
    return torch.stack(found)
