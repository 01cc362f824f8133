"""Valid values of the keys of conf/optimizer/, conf/ascent/ and conf/schedule/."""

from samgap.rules import ABOVE_0, at_least, number, numbers, whole

OPTIMIZER = {
    "lr": ABOVE_0,
    "momentum": number("a number from 0 up to but not including 1", lambda value: 0 <= value < 1),
    "weight_decay": at_least(0),
}
ASCENT = {
    "rho": at_least(0),
    "m": whole(1).or_null(" for the whole batch"),
    "interval": whole(1).or_null(" for every step"),
    "eta": at_least(0),  # only of asam
    "alpha": at_least(0),  # only of gsam
}
SCHEDULE = {
    "milestones": numbers("a list of shares from 0 to 1", lambda share: 0 <= share <= 1),
    "factor": ABOVE_0,
    "warmup_steps": whole(0),
}
