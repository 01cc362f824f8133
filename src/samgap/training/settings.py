"""Check a composed config and resolve it to the scientific settings of one run, from which its identity is hashed.

Values are checked before anything is written. The rules are in the packages of the parts, which check their arguments
again, since they can be used without a config.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samgap.data import rules as data_rules
from samgap.errors import SettingError
from samgap.models import rules as model_rules
from samgap.optim import rules as optim_rules
from samgap.pruning import rules as pruner_rules
from samgap.rules import ABOVE_0, FLAG, Rule, is_text, one_of, whole
from samgap.rules import check as refuse
from samgap.runs import registered
from samgap.runs.sweeps import A_NAME, A_WORD, is_name, is_word
from samgap.tracking import rules as logger_rules
from samgap.training.layout import Layout, layout
from samgap.training.machine import LIMIT, check_trainer

GROUPS = ("data", "model", "pruner", "optimizer", "ascent", "loss", "schedule")
# Without 16-mixed: its loss scale would affect the ascent, and a step skipped in pass 2 must be skipped in pass 1 too.
PRECISIONS = ("32-true", "tf32", "64-true", "bf16-mixed")
SCALARS = {
    "seed": whole(0),
    "replicate": whole(0).or_null(" for 0"),
    "epochs": whole(1),
    "batch_size": whole(1),
    "eval_every": whole(1),
    "precision": one_of(*PRECISIONS),
    "clip_norm": ABOVE_0.or_null(" for none"),
    "stop_loss": ABOVE_0.or_null(" for none"),
}
FOLDER = Rule(
    lambda value: is_text(value) and not value.startswith("~") and "\0" not in value and not Path(value).is_file(),
    "a folder (in full: only a shell expands ~)",
)
PLACES = {"name": Rule(is_name, A_NAME), "scale": Rule(is_word, A_WORD), "root": FOLDER, "data_dir": FOLDER}
# Keys without a rule are checked by the part itself.
RULES = {
    "data": data_rules.RULES,
    "model": model_rules.RULES,
    "pruner": pruner_rules.RULES,
    "optimizer": optim_rules.OPTIMIZER,
    "ascent": optim_rules.ASCENT,
    "schedule": optim_rules.SCHEDULE,
    "logger": logger_rules.RULES,
}
NEEDED = {"data": data_rules.NEEDED, "model": model_rules.NEEDED}


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scientific settings of a run.

    Keys that name code are left out. Whole floats become ints. `model.params` becomes the width with the nearest number
    of parameters, and `pruner.live_params` the sparsity with this number of live parameters. An interval of 1 and an m
    of the whole batch become null. `model.batch_norm` becomes the number of examples in the statistics of batch norm,
    since only that affects a result.

    Args:
        config: a composed config as plain values; only the groups and scalars above are read.

    Raises:
        SettingError: a value is not valid for its key.
    """
    for group in GROUPS:
        _refuse_no_part(group, config.get(group))
    config = {**dict.fromkeys(SCALARS), **config}  # a scalar that the user deleted is null
    check(config)
    settings: dict[str, Any] = {key: _plain(config[key]) for key in SCALARS}
    for group in GROUPS:
        public = {key: value for key, value in config[group].items() if key != "code" and not key.startswith("_")}
        settings[group] = {key: _plain(value) for key, value in public.items()}
    data_rules.check_channels(settings["data"])
    trainer = config.get("trainer", {})
    division = layout(settings, trainer.get("devices") or 1, trainer.get("micro_batch"))
    ascent = settings["ascent"]
    if ascent.get("m") and division.m == division.batch_size:
        ascent["m"] = None
    if ascent.get("interval") == 1:
        ascent["interval"] = None
    if limit := trainer.get(LIMIT):
        settings["trainer"] = {LIMIT: limit}
    _resolve_model(settings, config["model"]["code"], division)
    _resolve_pruner(settings, config["model"]["code"])
    return settings


def _resolve_model(settings: dict[str, Any], code: str, division: Layout) -> None:
    model = settings["model"]
    if norm := model.pop("batch_norm", None):
        size = division.batch_norm_size(norm)
        model["batch_norm_size"] = size if size < division.batch_size else None
    if (params := model.pop("params", None)) is not None:
        from samgap.models import count  # imports torch, which is slow; only model.params needs it

        model["width"] = _plain(count.width_of(code, own(model), params, *images(settings)))


def _resolve_pruner(settings: dict[str, Any], code: str) -> None:
    pruner = settings["pruner"]
    pruner.pop("refuse_empty", None)  # changes no result
    if live := pruner.pop("live_params", None):
        from samgap.models import count
        from samgap.pruning import mask

        if pruner.get("sparsity"):
            raise SettingError(
                "pruner.live_params and pruner.sparsity say the same: set pruner.live_params=null or pruner.sparsity=0."
            )
        width = settings["model"]["width"]
        counts = count.counts_of(code, own(settings["model"]), width, *images(settings))
        pruner["sparsity"] = mask.sparsity_of(live, counts, width)


def own(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a model's class takes beside its width."""
    return {key: value for key, value in model.items() if key not in ("name", "width", "init", "batch_norm_size")}


def check(values: Mapping[str, Any]) -> None:
    """Raise a SettingError if a value of a config is not valid; `values` may lack some top-level keys."""
    refuse(values, SCALARS)  # first: a group may interpolate a scalar, and the error must name the scalar
    for group in (*GROUPS, "logger"):
        refuse(values.get(group), {"_partial_": FLAG, **RULES.get(group, {})}, f"{group}.")
    refuse(values, PLACES)
    for group in ("about", "draw", "logger", "panels"):
        if not isinstance(values.get(group, {}), Mapping):
            text = json.dumps(values[group])
            raise SettingError(f"{group} must be set key by key, such as {group}.key=value, got {text}.")
    registered.check(values.get("draw", {}).get("registered"))
    if (trainer := values.get("trainer")) is not None:
        check_trainer(trainer)


def _refuse_no_part(group: str, part: Any) -> None:
    named = isinstance(part, Mapping) and is_word(part.get("name")) and is_text(part.get("_target_"))
    if not named or not (is_text(part.get("code")) or (group == "ascent" and not part.get("rho"))):
        keys = ("name", "_target_", "code")
        values = {key: part.get(key) for key in keys} if isinstance(part, Mapping) else part
        raise SettingError(
            f"{group} must be a file of conf/{group}/, whose name is a word and whose _target_ and code are dotted "
            f"paths, got {json.dumps(values)}."
        )
    if lacking := [key for key in NEEDED.get(group, ()) if key not in part]:
        raise SettingError(f"{group}.{lacking[0]} is missing: it must be {RULES[group][lacking[0]].expected}.")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def images(settings: Mapping[str, Any]) -> tuple[tuple[int, int, int], int]:
    """Return the shape of an image (c, h, w), and the number of classes."""
    data = settings["data"]
    return (data["channels"], data["size"], data["size"]), data["classes"]
