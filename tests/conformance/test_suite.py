"""The suite: what holds for samgap's SAM and for another one, and that every check can fail."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from samgap.conformance.__main__ import main
from samgap.conformance.subject import Subject, subject_for
from samgap.conformance.suite import PROPERTIES, Row, examine
from samgap.conformance.suite import check as check_property

OURS = [
    Subject("samgap.optim.sam:SAM", "wrapper"),
    Subject("samgap.optim.sam_unnormalized:SAMUnnormalized", "wrapper", "unnormalized"),
    Subject("samgap.optim.asam:ASAM", "wrapper", "other"),
    Subject("samgap.optim.gsam:GSAM", "wrapper", "sam", {"alpha": 0.0}),
]

# What fails for pytorch_optimizer:SAM. Its README tells the caller to freeze batch norm; it does not mention the rest.
PEER_VERSION = "4.1.0"
PEER_FAILS = {
    "rho = 0 with batch norm and dropout": "9 of 9 tensors differ",
    "batch norm's statistics": "wrong: running_mean, running_var, num_batches_tracked",
    "dropout": "51 % shared, next step another",
    "autocast around the step": "loss 0.207, then 0.207",
    "a scheduler": "1, 0.5, 0.25, warned",
    "a group added later": "KeyError: 'fused'",
    "a deep copy": "AttributeError: 'SAM' object has no attribute 'perturb_eps'",
}
PEER_NOT_APPLICABLE = {"returned loss", "an error in pass 2"}

# Fault of tests/conformance/faulty.py -> the first property that it violates.
FAULTS = {
    "NotAtTheWeights": "first pass",
    "OnePass": "first pass",
    "Downhill": "direction of the ascent",
    "NormByTensor": "one norm over all groups",
    "ConstantInTheNorm": "a small gradient",
    "NoGuard": "a gradient of zero",
    "DecayInTheAscent": "weight decay",
    "HalfNorm": "float16",
    "OnPrunedToo": "masked weights",
    "BySubtraction": "weights come back",
    "NewMemory": "weights stay where they lie",
    "ZeroIsFailure": "a loss of zero",
    "ReturnsTheSecondLoss": "returned loss",
    "RhoNeverZero": "rho = 0",
    "StatisticsTwice": "batch norm's statistics",
    "StatisticsFrozen": "batch norm goes on",
    "FreshDropout": "dropout",
    "KeepsAutocast": "autocast around the step",
    "MovesUnused": "a parameter that has no gradient",
    "RestoresWhatHasAGradient": "a parameter without gradient in pass 2",
    "ErrorLeavesEps": "an error in pass 2",
    "ForgetsMomentum": "momentum in state_dict",
    "KeepsWeightsInState": "size of state_dict",
    "GroupsOfItsOwn": "a scheduler",
    "CopiedWithoutBase": "a deep copy",
    "RanksPart": "ranks agree",
}
ALSO = {
    "Downhill": {"descent"},
    "BySubtraction": {"weights come back in bfloat16", "a gradient of inf or nan", "ranks agree with an ascent each"},
    "RhoNeverZero": {"rho = 0 with Adam"},
    "StatisticsTwice": {"rho = 0 with batch norm and dropout"},
    "GroupsOfItsOwn": {"a group added later"},
}


def check(name: str, subject: Subject) -> Row:
    return check_property(subject, next(each for each in PROPERTIES if each.name == name))


@pytest.mark.parametrize("subject", OURS, ids=lambda subject: subject.target)
def test_ours_have_all_properties(subject: Subject) -> None:
    rows = examine(subject)
    assert [row for row in rows if row.verdict == "fails"] == []
    absent = {row.property for row in rows if row.verdict == "n/a"}
    assert absent == set() if subject.ascent == "sam" else absent < {each.name for each in PROPERTIES[:8]} | {"descent"}


def test_a_peer_s_verdicts() -> None:
    assert version("pytorch_optimizer") == PEER_VERSION
    rows = examine(Subject("pytorch_optimizer:SAM", "two-step"))
    assert {row.property: row.came for row in rows if row.verdict == "fails"} == PEER_FAILS
    assert {row.property for row in rows if row.verdict == "n/a"} == PEER_NOT_APPLICABLE
    # These are the numbers on the page about the step.
    page = " ".join(Path("docs/sam.md").read_text().split())
    holds = sum(row.verdict == "holds" for row in rows)
    heading = f"pytorch_optimizer {PEER_VERSION}'s SAM, {holds} of {len(rows)} properties hold and {len(PEER_FAILS)} do"
    assert heading in page


def test_the_peer_by_its_closure() -> None:
    subject = Subject("pytorch_optimizer:SAM", "backward-closure")
    assert check("direction of the ascent", subject).verdict == "holds"
    assert check("an error in pass 2", subject).verdict == "fails"


@pytest.mark.parametrize(("fault", "name"), [(f, n) for f in FAULTS for n in sorted({FAULTS[f]} | ALSO.get(f, set()))])
def test_a_fault_is_found(fault: str, name: str) -> None:
    row = check(name, Subject(f"tests.conformance.faulty:{fault}", "wrapper"))
    assert row.verdict == "fails"
    assert fault == "CopiedWithoutBase" or "Error: " not in row.came  # the check fails and does not just raise an error


def test_every_check_can_fail() -> None:
    assert {*FAULTS.values(), *(name for names in ALSO.values() for name in names)} == {p.name for p in PROPERTIES}


def test_every_property_says_what_is_expected() -> None:
    assert len({each.name for each in PROPERTIES}) == len(PROPERTIES)
    assert all(each.wanted and each.check.__doc__ for each in PROPERTIES)


def test_the_command_says_it_all(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    some = [each for each in PROPERTIES if each.name in ("first pass", "weight decay", "dropout")]
    monkeypatch.setattr("samgap.conformance.suite.PROPERTIES", some)
    assert main(["samgap.optim.sam:SAM"]) == 0
    out = capsys.readouterr().out
    assert "samgap.optim.sam:SAM (wrapper), torch " in out
    assert "3 holds, 0 fails, 0 n/a" in out
    assert main(["pytorch_optimizer:SAM", "--json", "--own", '{"perturb_eps": 1e-6}']) == 1
    values = json.loads(capsys.readouterr().out)
    assert (values["adapter"], values["own"]) == ("two-step", {"perturb_eps": 1e-6})
    assert [row["verdict"] for row in values["rows"]] == ["holds", "holds", "fails"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.here:SAM"], "expected package.module:Class of a module that Python finds, and 'nothing.here:SAM'"),
        (["samgap.optim.sam:SAN"], "'samgap.optim.sam:SAN' cannot be imported"),
        (["samgap.optim.sam:global_norm"], "is no class"),
        (["samgap.optim.sam"], "cannot be imported"),
        ([":SAM"], "cannot be imported"),
        (["./davda_sam.py:SAM"], "'./davda_sam.py:SAM' cannot be imported (TypeError: "),
        (["broken:SAM"], "'broken:SAM' cannot be imported (RuntimeError: on purpose)"),
        (["leaves:SAM"], "'leaves:SAM' cannot be imported (SystemExit: 3)"),
        (["builtins:dict"], "does not fit builtins:dict"),
        (["samgap.optim.sam:SAM", "--adapter", "three-step"], "expected an adapter (wrapper, "),
        (["samgap.optim.sam:SAM", "--adapter", "torch.nn:ReLU"], "'torch.nn:ReLU' is no samgap.conformance"),
        (["samgap.optim.sam:SAM", "--adapter", "samgap.conformance.adapters:Adapter"], "cannot be made (TypeError: "),
        (
            ["samgap.optim.sam:SAM", "--adapter", "two-step"],
            "the adapter 'two-step' does not fit samgap.optim.sam:SAM (",
        ),
        (["samgap.optim.sam:SAM", "--own", '{"roh": 1}'], "name another with --adapter, or give what the class needs"),
        (["torch.optim:SGD"], "does not fit torch.optim:SGD"),
        (["tests.conformance.styles:AscentDescent"], "'AscentDescent' object has no attribute 'step'): name another"),
        (["tests.conformance.styles:ClosureUnstepped"], "(NotImplementedError: use fit())"),
        (["tests.conformance.styles:AscentDescent", "--adapter", "wrapper-two-step"], "no attribute 'zero_grad')"),
        (
            ["samgap.optim.sam:SAM", "--own", "{rho"],
            "expected an object of JSON, such as '{\"alpha\": 0.1}', and '{rho'",
        ),
        (["samgap.optim.sam:SAM", "--own", "[1]"], "expected an object of JSON, such as '{\"alpha\": 0.1}', got [1]."),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('on purpose')")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as leave:
        main(arguments)
    assert leave.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("target", "adapter"),
    [
        ("samgap.optim.sam:SAM", "wrapper"),
        ("pytorch_optimizer:SAM", "two-step"),
        ("tests.conformance.styles:Closure", "closure"),
        ("tests.conformance.styles:BackwardClosure", "backward-closure"),
        ("tests.conformance.styles:WrapperTwoStep", "wrapper-two-step"),
    ],
)
def test_styles_are_distinguished_and_used_right(target: str, adapter: str) -> None:
    subject = subject_for(target, "sam", {}, None)
    assert subject.adapter == adapter
    for name in ("first pass", "direction of the ascent", "descent", "rho = 0", "weight decay"):
        assert check(name, subject).verdict == "holds", name
