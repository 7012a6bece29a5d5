"""Flags for runs that take less than a second."""

TASK = ["--task.train_size", "40", "--task.dev_size", "12", "--task.test_size", "14"]
MODEL = ["--model.hidden_size", "8", "--model.embedding_size", "4"]
TRAINING = [
    *("--training.updates", "4"),
    *("--training.evaluate_every", "2"),
    *("--training.batch_size", "4"),
]
TINY = [*TASK, *MODEL, *TRAINING]
