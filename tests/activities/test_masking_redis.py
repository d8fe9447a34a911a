"""Masking an RDB file: strings as they may be written, values that pass, keys that do not come back."""

import pytest

from activities.snapshots.masking_redis import RedisMasking
from workflows.domain.masking import (
    DumpUnreadable,
    KeyRule,
    MaskHow,
    MaskingRefused,
    ServiceMasking,
    Survey,
    check_surveys,
)
from workflows.domain.masking_values import digest

KEY = bytes(range(32))
LZF = b"\x02abc\xe0\x5a\x02"
"""`abc`, and 99 bytes from three before on."""


def text(value: bytes) -> bytes:
    if len(value) < 64:
        return bytes([len(value)]) + value
    return bytes([0x80]) + len(value).to_bytes(4) + value


def string(key: bytes, value: bytes) -> bytes:
    return b"\0" + text(key) + value


LIST = b"\x12" + text(b"list") + b"\x01\x02" + text(b"packed")
STREAM = (
    (b"\x13" + text(b"stream") + b"\x01" + text(b"n" * 16) + text(b"l" * 70))
    + (b"\x01" + b"\x05\x00" + b"\x05\x00" + b"\x00\x00" + b"\x01")
    + (b"\x01" + text(b"group") + b"\x05\x00\x01")
    + (b"\x01" + b"i" * 16 + b"t" * 8 + b"\x01")
    + (b"\x01" + text(b"consumer") + b"s" * 8 + b"\x01" + b"i" * 16)
)
SORTED = b"\x05" + text(b"sorted") + b"\x01" + text(b"member") + b"\xff" * 8
OLD = b"\x03" + text(b"old") + b"\x02" + text(b"m") + b"\x031.5" + text(b"n") + b"\xfe"
HASH = b"\x04" + text(b"hash") + b"\x01" + text(b"field") + text(b"value")
KEPT = LIST + STREAM + SORTED + OLD + HASH + string(b"kept", text(b"x" * 100))
HEAD = (
    b"REDIS0010\xfa" + text(b"redis-ver") + text(b"7.0") + b"\xf5" + text(b"#!lua") + b"\xfe\x00\xfb\x05\x00"
)
END = b"\xff" + b"\x01\x02\x03\x04\x05\x06\x07\x08"
EXPIRES = b"\xfc" + b"e" * 8 + b"\xf8\x05"


def masked(data: bytes, piece: int = 1 << 20, **rules: str) -> bytes:
    given = ServiceMasking(
        keys=tuple(KeyRule(keys=each.replace("_", "*"), how=MaskHow(how)) for each, how in rules.items())
    )
    masking = RedisMasking(given, KEY)
    out = b"".join(masking.write(data[start : start + piece]) for start in range(0, len(data), piece))
    out += masking.finish()
    check_surveys(given, [Survey(len(out), masking.matched, masking.faults)])
    return out


@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
def test_strings_are_masked_however_they_are_written(piece: int) -> None:
    written = {
        b"clear": text(b"clear"),
        b"c" * 70: text(b"c" * 70),
        b"-7": b"\xc0\xf9",
        b"300": b"\xc1\x2c\x01",
        b"abc" * 34: b"\xc3\x07\x40\x66" + LZF,
    }
    strings = b"".join(string(b"s%d" % number, value) for number, value in enumerate(written.values()))
    data = HEAD + KEPT + EXPIRES + strings + END
    out = masked(data, piece, **{"s[0-9]": "hash"})
    hashed = b"".join(
        string(b"s%d" % number, text(digest(KEY, "text", value).hex()[:32].encode()))
        for number, value in enumerate(written)
    )
    assert out == HEAD + KEPT + EXPIRES + hashed + b"\xff" + bytes(8)


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_keys_that_are_deleted_take_their_expiry_along(piece: int) -> None:
    data = (
        HEAD
        + EXPIRES
        + string(b"gone", text(b"clear"))
        + KEPT
        + EXPIRES
        + string(b"red", text(b"clear"))
        + END
    )
    out = masked(data, piece, gone="delete", red="redact", stream="delete", list="delete")
    rest = KEPT.replace(STREAM, b"").replace(LIST, b"")
    assert out == HEAD + rest + EXPIRES + string(b"red", text(b"redacted")) + b"\xff" + bytes(8)


def test_without_rules_nothing_changes() -> None:
    assert masked(HEAD + KEPT + END, 3) == HEAD + KEPT + END


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_the_mark_behind_a_file_stays(piece: int) -> None:
    assert masked(HEAD + KEPT + END + b"0f" * 20, piece, x="redact") == (
        HEAD + KEPT + b"\xff" + bytes(8) + b"0f" * 20
    )


def test_values_that_no_rule_names_are_not_kept() -> None:
    rules = ServiceMasking(keys=(KeyRule(keys="x", how=MaskHow.REDACT),))
    masking, given = RedisMasking(rules, KEY), 0
    data = HEAD + string(b"big", text(b"v" * 4_000_000)) + END
    for start in range(0, len(data), 100_000):
        given += len(masking.write(data[start : start + 100_000]))
        assert given + 100 > min(start + 100_000, len(data))
    assert given + len(masking.finish()) == len(data)


def test_only_strings_can_become_others() -> None:
    with pytest.raises(MaskingRefused) as caught:
        masked(HEAD + KEPT + KEPT + END, li_="hash", h_="redact", none="redact")
    assert [str(each).split(",")[0] for each in caught.value.faults] == [
        "keys[0]: matches a list",
        "keys[1]: matches a hash",
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RUBBISH!!",
        b"REDIS0099" + END,
        HEAD + KEPT,
        HEAD + KEPT + END[:-1],
        HEAD + KEPT + END + b"x",
        HEAD + KEPT + END + b"0" * 39,
        HEAD + KEPT + END + b"0" * 41,
        HEAD + b"\x07" + text(b"module") + END,
        HEAD + b"\xf7" + END,
        HEAD + string(b"s", b"\xc3\x03\x09\x40ab") + END,
        HEAD + string(b"s", b"\xc5") + END,
        HEAD + string(b"s", b"\xc3\xc0\x05") + END,
        HEAD + string(b"k", b"\x82\0\0\0\1v") + END,
        HEAD + KEPT + END + b"REDIS" * 8,
    ],
)
def test_what_is_not_written_as_it_is_known_is_not_guessed_at(data: bytes) -> None:
    with pytest.raises(DumpUnreadable):
        masked(data, s_="redact")
