"""Valid values of the keys of conf/pruner/."""

from samgap.rules import ABOVE_0, FLAG, number, one_of, whole

RULES = {
    "sparsity": number("a share from 0 up to but not including 1", lambda share: 0 <= share < 1),
    "live_params": whole(1).or_null(),
    "refuse_empty": FLAG,
    "seed": whole(0),
    # Of pruners that score with images:
    "batches": whole(1),
    "batch_size": whole(1),
    "mode": one_of("train", "eval", expected="train or eval"),
    "temperature": ABOVE_0,  # only of grasp
    "iterations": whole(1),  # only of synflow
}
