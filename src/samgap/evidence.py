"""`python -m samgap.evidence`: combines all studies of gaps below `root` and those that came with samgap."""

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
    """Write tables and pictures to root/evidence, from which `samgap.report` reads them, and print the tables."""
    with cli.sentences():
        write(Path(naming.plain(config, "root")["root"]))


def write(root: Path) -> None:
    """Write the tables and pictures, and print tables and sentences."""
    from samgap.figures import picture  # only after `cli` has set the backend

    all_series = results.read([REFERENCE, root])
    combined, folder = tables.make(all_series), root / "evidence"
    tables.write(combined, folder, [series.study for series in all_series])
    below = f"commit {provenance.commit()[0][:7]}, {provenance.now()[:10]}"
    with style():
        for name, charts in combined.charts().items():
            kind = name.partition("-")[0]
            figure = picture.draw(charts, TITLES[kind], below, stacked=kind == "specifications")
            picture.save(figure, folder / name)
    for title, table in combined.text_tables().items():
        print(f"{title}:\n\n{console.table(table)}\n")
    print("\n".join(combined.sentences()))
    print(f"\n{folder}/*.{{csv,pdf,png}}")


if __name__ == "__main__":
    cli.command(main)
