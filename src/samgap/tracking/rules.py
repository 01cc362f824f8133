"""Rules for the keys of conf/logger/."""

from samgap.rules import ABOVE_0, Rule, is_text, one_of

MODES = (None, "", "online", "offline", "disabled", "shared", "dryrun", "run")  # the last three are synonyms of others
SET = ("id", "group", "job_type", "tags", "config")  # arguments of wandb.init
NAME = Rule(
    lambda value: is_text(value) and len(value) <= 128 and not set(value) & set("/\\#?%:"),
    "a text of at most 128 characters without / \\ # ? % :",
)
RULES = {
    "mode": one_of(*MODES, expected="online, offline or disabled, or null (its default is WANDB_MODE)"),
    "project": NAME,
    "entity": Rule(
        lambda value: value in (None, "") or NAME.is_valid(value),
        f"{NAME.expected}, or null for the account's own (its default is WANDB_ENTITY)",
    ),
    **{key: Rule(lambda value: False, "left out, since samgap sets it") for key in SET},
    "start_seconds": ABOVE_0,
    "end_seconds": ABOVE_0,
}
