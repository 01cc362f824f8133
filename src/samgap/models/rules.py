"""Valid values of the keys of conf/model/."""

from samgap.rules import ABOVE_0, at_least, one_of

RULES = {
    "width": ABOVE_0,
    "params": at_least(1).or_null(" for model.width"),
    "batch_norm": one_of("local", "synchronized"),
}
NEEDED = ("width",)  # required keys
