"""What is claimed of measured explainers, on made-up numbers of rows."""

import math

import pytest
import torch

from causalcf.metrics.explanation_sets import jackknife
from experiments.explain.claims import MARGIN, as_good, beaten, better, cheaper, claims, contest, faster, joined, mark
from experiments.explain.measured import PLACES, Result, difference
from experiments.explain.methods import METHODS
from experiments.explain.results import table

N = 60
NOISE = torch.randn(N, generator=torch.Generator().manual_seed(0)).double()  # of the rows, the same for all methods


def result(name, n=N, seconds=1.0, flips=N, confirmed=0.9, sfid=1.0, memory=None, tensors=None, **means):
    """A method that flips the first rows; whose numbers are those given, and what belongs to the rows."""
    means = {"IoU": 0.5, "truth error": 5.0, "L1": 0.1, "diversity": 0.5, **means}
    flipped = torch.arange(n) < flips
    columns = {
        "flip rate": flipped.double(),
        "NA": (torch.arange(n) % 10 < 10 * confirmed).double().where(flipped, math.nan),
        **{column: mean * (1 + 0.5 * NOISE[:n]) for column, mean in means.items()},
    }
    columns["L1"] = columns["L1"].where(flipped, math.nan)
    lines = []
    for column, values in columns.items():
        metric, variable = PLACES[column]
        kept = [None if math.isnan(value) else value for value in values.tolist()]
        lines.append({"metric": metric, "variable": variable, "values": kept, "reference": None})
    without = [sfid + 0.01 * part if sfid is not None else None for part in range(10)]
    together = {"sFID": sfid, "sFID without": without, "FID": sfid, "CD": 1.0, "enough": flips >= 20}
    cost = {"processor": [seconds] * n, "forward": [60.0] * n, "backward": [0.0] * n, "retried": [0.0] * n}
    content = {"about": {"method": name}, "asked": {"rows": n}, "machine": "a machine", "folder": "f"}
    content |= {"memory": memory, "tensors": tensors}
    return Result({**content, "cost": cost, "together": {str(n): together}, "lines": lines, "varied": []})


def verdicts(*results):
    lines = claims({found.name: found for found in results})[2:]
    return {line.split(" | ")[0][2:]: line.rsplit(" | ", 1)[1][:-2] for line in lines}


def test_differences_are_of_the_same_rows():
    first, second = result("Agreed", IoU=0.52), result("MaskDiME", IoU=0.50)
    found = difference(first, second, "IoU")
    apart = math.hypot(first.value("IoU").half, second.value("IoU").half)
    assert found.n == N
    assert found.by == pytest.approx((0.02 * (1 + 0.5 * NOISE)).mean().item())
    assert found.half < 0.1 * apart
    assert better(first, second, "IoU") == "held"  # as the same rows are easy for both
    assert better(second, first, "IoU") == "not held"
    assert better(first, first, "IoU") == "undecided"
    assert better(result("Agreed", L1=0.2), second, "L1") == "not held"  # less is better
    few = difference(result("Agreed", flips=30), result("MaskDiME", flips=20), "L1")
    assert few.n == 20
    assert difference(result("Agreed", n=20), second, "IoU").n == 20
    assert better(result("Agreed", n=9, IoU=0.9), second, "IoU") == "undecided"


def test_few_discordant_rows_decide_nothing():
    sure = [difference(result("Agreed"), result("MaskDiME", flips=N - by), "flip rate").sure for by in (3, 5, 6)]
    assert sure == [False, False, True]


def test_sets_are_compared_by_the_same_tenths():
    first, second = result("Agreed", sfid=1.0), result("MaskDiME", sfid=1.001)
    assert better(first, second, "sFID") == "held"  # both move together when a tenth is left out
    second.together[str(N)]["sFID without"] = second.together[str(N)]["sFID without"][::-1]
    assert better(first, second, "sFID") == "undecided"
    few = result("MaskDiME", sfid=9.0, flips=10)
    assert better(first, few, "sFID") == "undecided"
    assert "(few)" in str(few.value("sFID"))
    assert "(few)" not in str(few.value("CD"))
    other = result("MaskDiME", n=30, sfid=9.0)  # there is no number of the first 30 rows of the first
    assert better(first, other, "sFID") == "undecided"


def test_ten_tenths_and_few_rows_are_held_to_a_t_test():
    first, second = result("Agreed", sfid=1.0), result("MaskDiME", sfid=2.0)
    parts = torch.arange(10).double()
    parts = (parts - parts.mean()) / jackknife(parts.tolist())
    for error, said in ((1 / 2.2, "undecided"), (1 / 2.3, "held")):  # the difference is 1, and 2.262 errors are sure
        first.together[str(N)]["sFID without"] = (error * parts).tolist()
        second.together[str(N)]["sFID without"] = [0.0] * 10
        assert better(first, second, "sFID") == said
        assert difference(first, second, "sFID").half == pytest.approx(2.262157 * error)
    few = [result(name, n=30, IoU=mean) for name, mean in (("Agreed", 0.5), ("MaskDiME", 0.4))]
    each = torch.tensor(few[0].each("IoU", 30)) - torch.tensor(few[1].each("IoU", 30))
    assert difference(*few, "IoU").half == pytest.approx(2.045230 * each.std().item() / 30**0.5, rel=1e-5)
    assert few[0].value("IoU").half == pytest.approx(5 * difference(*few, "IoU").half, rel=1e-5)


def test_equal_is_within_a_margin_and_better_is_better():
    slow = result("DiME", flips=50)
    assert as_good(slow, slow, "flip rate") == "held"
    assert as_good(result("MaskDiME"), slow, "flip rate") == "held"
    assert as_good(result("MaskDiME", flips=20), slow, "flip rate") == "not held"
    assert as_good(result("MaskDiME", flips=49), slow, "flip rate") == "undecided"
    assert MARGIN == 0.02
    none = result("MaskDiME", flips=0)
    assert as_good(none, none, "NA") == "undecided"


def test_time_is_judged_by_how_many_times():
    one = result("MaskDiME")
    assert faster(one, result("DiME", seconds=20.0), "processor") == "held"
    assert faster(one, result("DiME", seconds=19.9), "processor") == "not held"
    said = [cheaper(one, result("DiME", seconds=seconds), "processor") for seconds in (1.2, 1.05, 0.95, 0.8)]
    assert said == ["held", "undecided", "undecided", "not held"]


def test_speed_counts_with_flips_and_places():
    claim = "MaskDiME is at least 20 times faster than DiME, flips as often, and localises better"
    slow = result("DiME", n=30, seconds=20.0, IoU=0.3)
    assert verdicts(result("MaskDiME"), slow)[claim] == "held"
    assert verdicts(result("MaskDiME", seconds=1.01), slow)[claim] == "not held"
    assert verdicts(result("MaskDiME", flips=20), slow)[claim] == "not held"
    assert verdicts(result("MaskDiME", IoU=0.3), slow)[claim] == "undecided"
    (line,) = (line for line in claims({"MaskDiME": result("MaskDiME"), "DiME": slow}) if claim in line)
    assert "processor: 30; flip rate: 30; IoU: 30" in line
    assert "processor: 20.0 times, held" in line


def test_claims_follow_the_numbers_and_say_of_how_many():
    vanilla, smooth = result("SCE-LITE-HQ, vanilla", confirmed=0.4, flips=40), result("SCE-LITE-HQ, distilled")
    open_ = result("SCE-LITE-HQ, distilled, no exclusion", diversity=0.2)
    said = verdicts(vanilla, smooth, open_)
    assert said["distilled gradients raise NA over vanilla ones"] == "held"
    assert said["exclusion masks raise diversity"] == "held"
    swapped = verdicts(result("SCE-LITE-HQ, vanilla"), result("SCE-LITE-HQ, distilled", confirmed=0.4))
    assert swapped["distilled gradients raise NA over vanilla ones"] == "not held"
    (line,) = (
        line
        for line in claims({r.name: r for r in (vanilla, smooth)})
        if "over vanilla ones | SCE" in line and "| SCE-LITE-HQ, distilled |" in line
    )
    assert "| NA: 40 |" in line  # rows that both flip


def test_integrated_gradients_are_held_against_smoothgrad_whichever_is_ahead():
    claim = "integrated gradients raise NA over SmoothGrad's"
    for integrated, smooth, said in ((0.8, 0.4, "held"), (0.4, 0.8, "not held"), (0.8, 0.8, "undecided")):
        one = result("SCE-LITE-HQ, IntegratedGradients", confirmed=integrated)
        assert verdicts(one, result("SCE-LITE-HQ, SmoothGrad", confirmed=smooth))[claim] == said


def test_where_the_truth_is_unknown_the_rest_decides():
    pair = [result(name, seconds=spent, IoU=math.nan) for name, spent in (("MaskDiME", 1.0), ("DiME", 30.0))]
    (line,) = (line for line in claims({found.name: found for found in pair}) if "localises" in line)
    assert "IoU: unknown |" in line
    assert line.endswith("| held |")
    pair[1] = result("DiME", seconds=30.0, IoU=0.5)
    (line,) = (line for line in claims({found.name: found for found in pair}) if "localises" in line)
    assert line.endswith("| undecided |")


def test_what_is_not_measured_is_said():
    said = verdicts(result("LDCE"))
    assert len(said) > 8
    assert set(said.values()) == {"not measured"}
    lines = contest({"Agreed": result("Agreed")})
    assert "not measured. Not measured: MaskDiME, SCE-LITE-HQ, distilled, FastDiME" in lines[-1]
    assert "- Agreed, vanilla: not measured" in lines


def test_the_contest_takes_a_win_and_no_loss():
    own, other = result("Agreed"), result("MaskDiME")
    assert not beaten(own, other)  # a tie is no win
    assert not beaten(other, own)
    assert beaten(result("Agreed", seconds=0.5), other)
    assert not beaten(result("Agreed", seconds=0.5, IoU=0.4), other)
    for lost in ({"L1": 0.2}, {"sfid": 2.0}, {"flips": 50}, {"confirmed": 0.5}, {"truth error": 6.0}, {"seconds": 2.0}):
        won = {"IoU": 0.9} | lost
        assert not beaten(result("Agreed", **won), other), lost
        assert beaten(result("Agreed", IoU=0.9), other)


def test_to_change_less_than_the_truth_is_not_better():
    own, other = result("Agreed", L1=0.2, IoU=0.9), result("MaskDiME")
    assert not beaten(own, other)
    for found in (own, other):
        found.lines[PLACES["truth error"]]["reference"] = {"mean": 7.0}  # of doing nothing
    assert beaten(own, other)
    (line,) = (line for line in contest({"Agreed": own, "MaskDiME": other}) if line.startswith("| Agreed | MaskDiME"))
    assert " (-) | " in line


def test_who_has_no_value_loses():
    own, none = result("Agreed"), result("MaskDiME", flips=0, sfid=None)
    assert mark(own, none, "NA") == "+"
    assert mark(none, own, "NA") == "-"
    assert mark(none, none, "NA") == ""
    assert beaten(own, none)
    assert not beaten(result("Agreed", flips=0, sfid=None, IoU=0.9), result("MaskDiME"))
    for found in (own, none):  # photographs, where nobody knows the truth
        for column in ("IoU", "truth error"):
            del found.lines[PLACES[column]]
    assert mark(own, none, "IoU") == ""
    assert beaten(own, none)


def test_the_overall_verdict():
    every = {name: result(name) for name, method in METHODS.items() if method.published}
    own = {"Agreed": result("Agreed", seconds=0.5), "Agreed, vanilla": result("Agreed, vanilla", IoU=0.4)}
    lines = contest(own | every)
    assert lines[-1] == f"**Agreed: beats all {len(every)} published rows.**"
    assert f"- Agreed, vanilla: beats 0 of {len(every)} published rows" in lines
    (line,) = (line for line in lines if line.startswith("| Agreed | MaskDiME |"))
    assert " | 60 | " in line
    assert "0.500 / 1.000 +" in line
    assert line.endswith("| beaten |")
    assert "so far" in contest(own | {"MaskDiME": every["MaskDiME"]})[-1]
    assert contest(every | {"Agreed": result("Agreed")})[-1].startswith("**No combination of our own beats all")


def test_verdicts_join():
    assert joined(["held", "undecided"]) == "undecided"
    assert joined(["undecided", "not held"]) == "not held"
    assert joined(["held", "held"]) == "held"


def test_the_table_says_of_how_many_rows():
    found = result("Agreed", flips=40, memory=3.2, tensors=0.25), result("DiME", n=30, memory=3.2), result("ACE")
    lines = table({each.name: each for each in found})
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:])]
    own, slow, none = (dict(zip(cells[0], row, strict=True)) for row in cells[1:])
    assert (own["n"], own["flipped"], slow["n"]) == ("60", "40", "30")
    assert own["NA"].startswith("0.900 ± ")
    assert "of" not in own["NA"]
    assert own["NAFR / flip rate"] == "-"
    assert own["machine"] == "a machine"
    assert [each["peak memory, MB"] for each in (own, slow, none)] == ["0.2", "3 of a process", "-"]
    (shared,) = table({"Agreed": result("Agreed")}, 30)[2:]
    assert shared.split(" | ")[1] == "30"
