"""`python -m samgap.train`: one run, or with -m a sweep."""

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from samgap import cli, naming
from samgap.records import RunRecord

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="train")
def main(config: DictConfig) -> dict[str, Any]:
    """Carry out the run that `config` describes.

    In a sweep an error is returned, not raised, so that it ends this run alone; the sweeper tells of it at the end.
    """
    # Brings torch and Lightning, which a sweep that is done, or an error, need not wait for.
    from samgap.training import ranks
    from samgap.training.run import Busy, run

    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode != RunMode.MULTIRUN:
        with cli.sentences():
            record = run(values, folder, bar=sys.stderr.isatty())
        if ranks.rank() == 0:
            print(summary(record, Path(os.path.relpath(folder))))
        return {}
    try:
        return {"folder": folder.name, "status": run(values, folder).status}
    except Busy:
        return {"folder": folder.name, "status": "busy"}
    except Exception as error:
        return {"folder": folder.name, "status": "failed", "error": cli.explain(error) or repr(error)}


def summary(record: RunRecord, folder: Path) -> str:
    """What a single run says at its end."""
    if record.status == "diverged":
        result = f"diverged in epoch {record.epochs}"
    elif record.test_acc_final is None or record.train_acc_final is None:
        result = f"test loss {record.test_loss_final:.4g}, train {record.train_loss_final:.4g}"
    else:
        result = f"test accuracy {100 * record.test_acc_final:.2f} %, train {100 * record.train_acc_final:.2f} %"
    return f"{record.arm}, {record.params_live:,} parameters, {result}, {record.seconds:.1f} s\n{folder}"


if __name__ == "__main__":
    cli.command(main)
