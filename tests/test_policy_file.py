"""Policy files: the example of the documentation is good, and every bad file is refused in one line."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest

from forestall.cli import main
from forestall.demand.policy_document import CALENDAR_KEYS, FILE_KEYS, RULE_KEYS
from forestall.model.errors import BadPolicy
from forestall.settings import load_policy

DOCUMENT = Path(__file__).parents[1] / "docs" / "policy.md"
RULE = '[[rule]]\nname = "a"\n'
TIMED = RULE + "weight = 2\n[rule.calendar]\n"


def example(folder: Path) -> Path:
    """Write the example of the documentation as a file."""
    found = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return write(folder, found[1])


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "policy.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


BAD = {
    "no such file": (None, "cannot be read: no such file"),
    "empty rule": ("[[rule]]\n", "line 1: rule number 1: has no name"),
    "no name": ("[[rule]]\nweight = 2\n", "line 1: rule number 1: has no name"),
    "empty name": ('[[rule]]\nname = " "\n', "line 2: rule ' ': name must be printable text"),
    "name with a line break": ('[[rule]]\nname = "a\\nb"\nweight = 2\n', "must be printable text"),
    "unknown key": (RULE + "wieght = 2\n", "line 3: rule 'a': unknown key 'wieght', did you mean 'weight'?"),
    "unknown table": ('[group]\nweb = ["x"]\n', "line 1: unknown key 'group', did you mean 'groups'?"),
    "unknown key in the defaults": ("[defaults]\n\nfloor = 1\n", "line 3: [defaults]: unknown key 'floor'"),
    "unknown key in a calendar": (TIMED + "weekday = []\n", "line 5: rule 'a', calendar: unknown key 'weekday'"),
    "sets nothing": (RULE + 'vms = ["x"]\n', "line 1: rule 'a': sets nothing"),
    "twice the same name": (RULE + "weight = 2\n" + RULE + "weight = 3\n", "line 5: rule 'a': is the name of"),
    "weight as text": (RULE + 'weight = "2"\n', "line 3: rule 'a': weight must be a number, not text"),
    "weight as a truth": (RULE + "weight = true\n", "weight must be a number, not true or false"),
    "negative weight": (RULE + "weight = -1\n", "line 3: rule 'a': weight must be above 0, not -1"),
    "weight zero": (RULE + "weight = 0\n", "weight must be above 0, not 0"),
    "weight nan": (RULE + "weight = nan\n", "weight must be above 0, not nan"),
    "weight inf": (RULE + "weight = inf\n", "weight must be above 0, not inf"),
    "priority as a fraction": (RULE + "priority = 1.5\nweight = 1\n", "priority must be a whole number, not 1.5"),
    "budget zero": (RULE + "violation_budget = 0\n", "violation_budget must be above 0 and below 0.5"),
    "budget a half": ("[defaults]\nviolation_budget = 0.5\n", "line 2: [defaults]: violation_budget must be above 0"),
    "ratio above one": (RULE + "ceiling_ratio = 50\n", "ceiling_ratio must be above 0 and at most 1, not 50"),
    "negative floor": (RULE + "floor_bytes = -1\n", "floor_bytes must be at least 0, not -1"),
    "floor twice": (RULE + "floor_cores = 1\nfloor_ratio = 0.5\n", "line 3: rule 'a': has both floor_cores and"),
    "ceiling twice": (RULE + "ceiling_bytes = 1\nceiling_ratio = 0.5\n", "has both ceiling_bytes and ceiling_ratio"),
    "floor above ceiling": (RULE + "floor_cores = 3\nceiling_cores = 2\n", "floor_cores 3 lies above ceiling_cores 2"),
    "floor above another's ceiling": (
        RULE + "floor_ratio = 0.5\n" + '[[rule]]\nname = "b"\nvms = ["x-*"]\nceiling_ratio = 0.3\n',
        "line 7: rule 'b': ceiling_ratio 0.3 lies below floor_ratio 0.5 of rule 'a' for a VM such as 'x-1'",
    ),
    "floor of another resource": (
        RULE + 'resources = ["memory"]\nfloor_cores = 1\n',
        "line 4: rule 'a': floor_cores says nothing about its resources (memory)",
    ),
    "unknown resource": (RULE + 'resources = ["ram"]\nweight = 1\n', "line 3: rule 'a': resources names the unknown"),
    "unknown group": (
        '[groups]\nweb = ["w-*"]\n' + RULE + 'groups = ["wbe"]\nweight = 2\n',
        "line 5: rule 'a': groups names the unknown entry of [groups] 'wbe', did you mean 'web'?",
    ),
    "unknown application": (RULE + 'applications = ["db"]\nweight = 2\n', "unknown entry of [applications] 'db'"),
    "category that is not recognised": (
        RULE + 'applications = ["web"]\nweight = 2\n',
        "unknown entry of [applications] 'web'",
    ),
    "a pattern alone": (
        '[burst]\nborrowers = "batch-*"\n',
        "line 2: [burst]: borrowers must be a list",
    ),
    "unknown key of lending": ('[burst]\nborrower = ["x"]\n', "line 2: [burst]: unknown key 'borrower', did you mean"),
    "sure of nothing": ("recognise_applications = 0.5\n", "line 1: recognise_applications must be above 0.5"),
    "surer than sure": (
        "recognise_applications = 1.5\n",
        "line 1: recognise_applications must be above 0.5 and at most 1",
    ),
    "floor above a ceiling where recognised": (
        "recognise_applications = 0.9\n" + RULE + 'applications = ["web"]\nfloor_cores = 2\n'
        '[[rule]]\nname = "b"\nceiling_cores = 1\n',
        "for a VM such as 'recognised-web'",
    ),
    "unknown owner": (RULE + 'owners = ["me"]\nweight = 2\n', "unknown entry of [owners] 'me'"),
    "text for a list": (RULE + 'vms = "db-*"\nweight = 2\n', "line 3: rule 'a': vms must be a list, not text"),
    "empty list": (RULE + "vms = []\nweight = 2\n", "vms is an empty list"),
    "number in a list": (RULE + "vms = [1]\nweight = 2\n", "vms must be text, not a number"),
    "group of a group": ("[groups.web]\nx = 1\n", "[groups]: web must be a list, not a table"),
    "two trust groups of one VM": (
        '[trust_groups]\nred = ["a-*", "x"]\nblue = ["b-*", "x"]\n',
        "line 3: [trust_groups]: 'x' is in 'red' too; a VM is in one trust group",
    ),
    "permission as text": (
        'models_across_trust_groups = "yes"\n',
        "line 1: models_across_trust_groups must be true or false, not text",
    ),
    "groups as a list": ("groups = []\n", "line 1: [groups]: must be a table of names"),
    "rule with one bracket": ("[rule]\nweight = 2\n", "line 1: rules are written as [[rule]]"),
    "calendar as text": (RULE + 'weight = 2\ncalendar = "mon"\n', "line 4: rule 'a', calendar: must be a table"),
    "empty calendar": (TIMED, "line 4: rule 'a', calendar: is empty"),
    "unknown zone": (TIMED + 'time_zone = "Europe/Berln"\n', "unknown time zone 'Europe/Berln', did you mean"),
    "zone out of the data base": ('time_zone = "../etc/passwd"\n', "line 1: time_zone names the unknown time zone"),
    "zone that is a folder": ('time_zone = "Europe"\n', "line 1: time_zone names the unknown time zone 'Europe'"),
    "unknown weekday": (
        TIMED + 'weekdays = ["mno"]\n',
        "line 5: rule 'a', calendar: weekdays names the unknown weekday",
    ),
    "unknown end of the week": (TIMED + 'weekdays = ["mon-"]\n', "weekdays names the unknown weekday ''"),
    "bad time": (TIMED + 'times = ["8-18"]\n', "times must be times as '08:00-18:00', not '8-18'"),
    "hour 25": (TIMED + 'times = ["08:00-25:00"]\n', "times has a time after the end of the day"),
    "begins at 24": (TIMED + 'times = ["24:00-06:00"]\n', "times has a time after the end of the day"),
    "empty window": (TIMED + 'times = ["08:00-08:00"]\n', "times has an empty range of times"),
    "bad date": (TIMED + 'dates = ["24.12."]\n', "dates must be dates as '2026-12-24'"),
    "date that does not exist": (TIMED + 'dates = ["2026-02-29"]\n', "dates has a date that does not exist"),
    "dates that go back": (TIMED + 'dates = ["2026-12-31..2026-01-01"]\n', "ends before it begins"),
    "dates half with a year": (TIMED + 'dates = ["2026-12-31..01-01"]\n', "mixes a day with and a day without"),
    "time as a date": (TIMED + "dates = [2026-12-31T10:00:00]\n", "dates must be text, not a date or time"),
    "unknown holidays": (TIMED + 'except_holidays = ["x"]\n', "except_holidays names the unknown list of [holidays]"),
    "no holidays at all": ("[holidays]\nx = []\n" + TIMED + 'holidays = ["x"]\n', "calendar: never holds"),
    "never": (TIMED + 'weekdays = ["mon"]\ndates = [2026-10-23]\n', "line 4: rule 'a', calendar: never holds"),
    "inline calendar": (
        RULE + 'weight = 2\ncalendar = { days = ["mon"] }\n',
        "line 4: rule 'a', calendar: unknown key",
    ),
    "syntax": ("[[rule]]\nname = \n", "line 2, column 8: is not valid TOML: Invalid value"),
    "unfinished": ('[[rule]]\nname = "a', "line 2, column 10: is not valid TOML"),
    "same key twice": (RULE + 'name = "b"\n', "line 3, column 11: is not valid TOML: Cannot overwrite a value"),
    "nested too deeply": ("a = " + "[" * 100_000, "is not valid TOML: a value is too long or nested too deeply"),
    "number too long": ("a = " + "9" * 5_000, "is not valid TOML: a value is too long or nested too deeply"),
    "not UTF-8": (b'[[rule]]\nname = "caf\xe9"\n', "line 2: is not text in UTF-8"),
    "binary": (bytes(range(256)) * 10, "is not text in UTF-8"),
    "too large": (b"#" * 2_000_000, "is larger than"),
    "too many rules": ("".join(f'[[rule]]\nname = "{i}"\nweight = 1\n' for i in range(1001)), "at most 1000 are taken"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, text = BAD[name]
    path = tmp_path / "policy.toml" if content is None else write(tmp_path, content)
    for command in (["check", str(path)], ["show", str(path), "--vm", "x", "--json"]):
        assert main(["policy", *command]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith(f"forestall: {path}: ")
        assert text in err
        assert len(err) < 500


def test_a_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"forestall: {tmp_path}: cannot be read: is a directory\n"


def test_the_example_of_the_documentation_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = example(tmp_path)
    assert main(["policy", "check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rules = [line.split("  ")[2] for line in out.splitlines()[2:]]
    assert len(rules) == len(load_policy(path).rules)
    assert out.splitlines()[2].split(maxsplit=2)[:2] == ["1", "20"]


def test_every_key_is_documented() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    missing = [key for key in (*FILE_KEYS, *RULE_KEYS, *CALENDAR_KEYS) if not re.search(rf"`\[*{key}\]*`", document)]
    assert missing == []


def test_check_as_json_with_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path, '[[rule]]\nname = "a"\nweight = 2\nvms = ["x"]\n[[rule]]\nname = "b"\nweight = 3\npriority = 1\n'
    )
    assert main(["policy", "check", str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert [rule["name"] for rule in answer["rules"]] == ["b", "a"]
    assert answer["rules"][1]["matches"] == {"vms": ["x"]}
    assert answer["warnings"] == ["rule 'a' can never win: 'b' always comes first"]
    assert err == f"forestall: {path}: rule 'a' can never win: 'b' always comes first\n"


def test_show_says_which_rule_gave_each_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = example(tmp_path)
    arguments = ["policy", "show", str(path), "--vm", "db-ledger", "--json", "--at"]
    answers = []
    for moment in ("2026-12-30T20:00:00+01:00", "2026-06-01"):
        assert main([*arguments, moment]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    closing, summer = ({(v["resource"], v["attribute"]): v for v in a["values"]} for a in answers)
    assert answers[0]["rules"] == ["month-end closing", "databases keep half"]
    assert (closing["cpu", "floor"]["key"], closing["cpu", "floor"]["value"]) == ("floor_cores", 2)
    assert closing["cpu", "weight"]["source"] == "rule 'month-end closing'"
    assert closing["memory", "weight"]["source"] == "rule 'databases keep half'"
    assert (summer["cpu", "weight"]["value"], summer["cpu", "floor"]["key"]) == (3, "floor_ratio")
    assert summer["net_rx", "ceiling"]["value"] is None
    assert summer["net_rx", "violation_budget"]["source"] == "defaults"


def test_show_without_a_vm_and_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", str(write(tmp_path, RULE + "ceiling_bytes = 8589934592\n"))]) == 0
    out = capsys.readouterr().out
    assert "ceiling_bytes 8589934592" in out
    assert "rule 'a'" in out


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01", "-1", "99999999999999999999", "9999-01-01", "²"])
def test_a_bad_time_is_one_line(moment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", str(example(tmp_path)), f"--at={moment}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "--at" in err


def test_a_file_as_windows_writes_it(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, b"\xef\xbb\xbf" + (RULE + "weight = 2\n").replace("\n", "\r\n").encode()))
    assert policy.rules[0].terms.weight == 2
    with pytest.raises(BadPolicy, match="line 3"):
        load_policy(write(tmp_path, (RULE + "wight = 2\n").replace("\n", "\r\n")))


def test_an_empty_file_is_a_policy(tmp_path: Path) -> None:
    assert load_policy(write(tmp_path, "")).rules == ()


def test_calendars_are_read_as_documented(tmp_path: Path) -> None:
    text = 'time_zone = "Asia/Tokyo"\n[holidays]\nh = ["05-01", 2026-04-03]\n' + TIMED
    text += 'weekdays = ["Sat-mon", "wednesday"]\ntimes = ["22:00-06:00", "00:00-24:00"]\nexcept_holidays = ["h"]\n'
    calendar = load_policy(write(tmp_path, text)).rules[0].calendar
    assert calendar is not None
    assert calendar.weekdays == {5, 6, 0, 2}
    assert str(calendar) == "mon,wed,sat,sun 22:00-06:00,00:00-24:00 except 05-01,2026-04-03 Asia/Tokyo"
    assert not calendar.holds_on(date(2026, 4, 3))


def test_recognised_applications_need_no_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "recognise_applications = 0.9\n" + RULE + 'applications = ["streaming"]\nweight = 2\n')
    assert main(["policy", "check", str(path)]) == 0
    assert "warnings: 0" in capsys.readouterr().out
    assert load_policy(path).recognise_applications == 0.9


def test_who_borrows_cores_and_who_lends_them(tmp_path: Path) -> None:
    vms = ("web", "batch-1", "batch-2")
    policy = load_policy(write(tmp_path, '[burst]\nborrowers = ["batch-*"]\n'))
    assert policy.borrowing(vms).tolist() == [False, True, True]
    assert policy.lending(vms).tolist() == [True, False, False]
    policy = load_policy(write(tmp_path, '[burst]\nborrowers = ["batch-1"]\nlenders = ["batch-*"]\n'))
    assert policy.lending(vms).tolist() == [False, False, True]
    assert not load_policy(write(tmp_path, "")).borrowing(vms).any()


def test_trust_groups_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, '[trust_groups]\nred = ["red-*"]\nblue = ["*-1"]\n')
    assert main(["policy", "show", str(path), "--vm", "red-1"]) == 0
    assert "trust group: red\n" in capsys.readouterr().out, "of two groups that mean it the first"
    assert main(["policy", "show", str(path), "--vm", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trust_group"] == ""
