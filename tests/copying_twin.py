"""Action sequences as the paper's copying scheme reads them: the twin of trees of prefixes.

Cundy, Ermon 2024, arXiv 2306.05426: a network is fed one token for every action. A token that is
written is fed at the next position. After a backspace, what is then on top is fed once more, at its
own position, and both what was withdrawn and the older copy are hidden from all that follows. So
the output at each place scores the next action.
"""

import torch


def copies(prompt, actions, backspace):
    """What is fed, where, and what each may see.

    Args:
        prompt: the tokens that are never withdrawn, at least one.
        actions: tokens, eos and backspaces.
        backspace: the action that withdraws.

    Returns:
        Tokens, positions, and a square mask of what each sees: prompt first, then one for every
        action.
    """
    fed = [(token, place) for place, token in enumerate(prompt)]
    seen = [list(range(place + 1)) for place in range(len(prompt))]
    stack = list(range(len(prompt)))  # the places of what stands
    for action in actions:
        if action == backspace:
            if len(stack) > len(prompt):
                stack.pop()
            token, place = fed[stack.pop()]
        else:
            token, place = action, len(stack)
        fed.append((token, place))
        stack.append(len(fed) - 1)
        seen.append(list(stack))
    mask = torch.zeros(len(fed), len(fed), dtype=torch.bool)
    for row, others in enumerate(seen):
        mask[row, others] = True
    tokens, places = torch.tensor(fed).T
    return tokens, places, mask


def causal_scores(policy, source, actions, backspace):
    """The scores before every action and after all, of one sentence and a decoder alone."""
    words = policy.vocabulary
    values = source.values[0, : int(source.lengths[0])]
    # A tokenizer's model starts to write after its prompt; ours, after bos.
    prompt = values.tolist()
    if not policy.shared:
        prompt = [*(values + words.size).tolist(), words.bos]
    tokens, places, mask = copies(prompt, actions, backspace)
    dtype = policy.dtype
    hidden = torch.full(mask.shape, torch.finfo(dtype).min, dtype=dtype).masked_fill(mask, 0)
    found = policy.inner(
        input_ids=tokens[None], position_ids=places[None], attention_mask=hidden[None, None]
    )
    return found.logits[0, len(prompt) - 1 :, : words.actions]


def recurrent_scores(policy, source, actions, backspace):
    """The same of a recurrent policy: a copy is read from the state before what it copies."""
    below = top = policy.start(source)
    token = policy.vocabulary.bos
    stack, found = [(below, token)], []
    for action in [None, *actions]:  # first bos is read
        if action == backspace:
            if len(stack) > 1:
                stack.pop()
            below, token = stack[-1]
        elif action is not None:
            below, token = top, action
            stack.append((below, token))
        scores, top = policy.step(below, torch.tensor([token]))
        found.append(scores)
    return torch.cat(found)
