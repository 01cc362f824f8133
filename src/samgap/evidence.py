"""`python -m samgap.evidence`: what all studies of gaps below `root`, and those that came with samgap, say together."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from samgap import cli, console, naming, provenance
from samgap.figures.archive import REFERENCE
from samgap.figures.evidence import results, tables
from samgap.style import style

TITLES = {
    "slopes": "How much more SAM gains in larger nets, and in sparser ones",
    "specifications": "Figure 7: does SAM gain more in larger nets?\nEach point asks in another way",
    "gaps": "What SAM gains, over parameters and over parameters per training image\n"
    "(bars: 95 % interval of ours, the paper's band of the published)",
}

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="evidence")
def main(config: DictConfig) -> None:
    """Write tables and pictures to root/evidence, where `samgap.report` finds them, and print what they come to."""
    from samgap.figures import picture  # only after `cli` has set the backend

    with cli.sentences():
        root = Path(naming.plain(config, "root")["root"])
        several = results.read([REFERENCE, root])
        found, folder = tables.make(several), root / "evidence"
        tables.write(found, folder, [one.study for one in several])
        below = f"commit {provenance.commit()[0][:7]}, {provenance.now()[:10]}"
        with style():
            for name, charts in found.charts().items():
                kind = name.partition("-")[0]
                drawn = picture.draw(charts, TITLES[kind], below, stacked=kind == "specifications")
                picture.save(drawn, folder / name)
        for title, table in found.shown().items():
            print(f"{title}:\n\n{console.table(table)}\n")
        print("\n".join(found.said()))
        print(f"\n{folder}/*.{{csv,pdf,png}}")


if __name__ == "__main__":
    cli.command(main)
