"""Facts of streams: the same in whatever pieces it comes, none of one that is cut, others of another."""

import base64
import io
import itertools
import random
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.snapshots.facts import ContentBroken, mariadb, observer_of
from activities.snapshots.facts.crc64 import Crc64
from activities.snapshots.facts.packed import integers, listpack, uncompressed, ziplist
from activities.snapshots.facts.tallies import MOST_NAMES, Counting
from tests.helpers.databases import PostgresServer, postgres_server
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_dump import GLOBALS, USERS
from workflows.domain.snapshot_facts import Facts, Kind, differences

__all__ = ["postgres_server"]

RDB = zlib.decompress(
    base64.b85decode(
        "c-q~UTXPd-7{~YUZhC^+mU3<(K!Fx$*+X_Wt0GYjS`UaI9#PmNn-XZ!Hc6qNC<VNA96o>-"
        "+&Xfp7v6N*;R`t4al?4wI5OiPBhDDK@qPc#BQyE|ys#4<e$Qrq|INOKZFB6<!SUm^?bywZT2d_6N6#m<R5)gjIexQ~j^xXY`a-"
        "U06&mGAvbgzt$GK+vY&|KCR+7qM?sC7@?5-u#lcV)UEr~0m#r%TSY{QXqao7v<vF+PIG0Eg@zYs-"
        "*l3&ONj+c~t$IV2p?|QE11<fuPQ>9WpX)Ip&LerY<@l<IvAJ>xw?P2cVwk?yhak?5;l6_Mbs`SyuYRN>o-biYvO0!k@@usT7J4-"
        "wFq#t)9=~~j5tyR-bI;j>%mbFJKb*nvJo=9Jkm&sifiR0PZ$8QXc-"
        "*9uXaicq5Rpg7BtU5k4PECljhNuZN{7~b6t&}?snoJc5)OZw4jZ4wgI228dP0?tah@z><QnZaGq-bgail)Y=XlgPPO^rv<)VLH)j"
        "YDaB(byD##*WCLhCjg=nvgC^O+eS7#;0g%cnn6-coa>IOVQLg6uk!x&%&OZnM4sKgR>M2<^kBPIG|XtPpRMxh3-"
        "<!!w+^T6YNkX*rv=8$yuI!aF#N`A!QCL=5Yu6lnKsICfK9Qor-zZ!474DZOYssIgBV1%xexDQYJW{%<YPKy1^OB1bdV@q}ZiQFfT"
        "T+O__>=h%&b+&Qd0rmpVA0%&m%j$^`Q&1ACMSb}4g<Vuv!pyv7y#5oM+oXDJgLQYM&p7?|&Ovtpj#O^Q7_AI#SsRLtWH=5;k7Im2"
        "5E%=f!dG0*P?#k{J)K4q>~%;OB^b+t}0?<p|f?^?w?ziT9Wyq>{X%3Q6O#~IA)s$Vg0CUAx_S1IQC?NiL_8O&R`S22&XVwcxdk7C"
        "|OV7}jO#k{UoD(3lJp_s4RrI^RLQ!(%04#m8W+7<KtrX)MOt}Mkozd~_HnWkbMXG1aXUtKZpBTX^yqd)gc=6&=?G0*Ssiut;~?Kc"
        "v>-Crg0E_xu5H_?5G{LHu~k)PQ=NaU6Ly+nRi-I2)S`>jOYK8yQ%h5D^AFd*ZE_Q_-"
        "t*BhzpqvdMJny(nwoH1XtdhpBTOk6*+bYRDUTb;K|d9Hr7<d}NeGF;P;)icesrDx3CTEjQ3be9pBDS0?F+hom}?P;qcGCTBZCC3("
        ">xs>6EE?Hf%LRL?#lr<x|W%b1qvIe3@)=>1yniYMrMq*VuWxBTLhrAl{8pvxQuY<fE@&?EoArC+vl(J`wO^`Q3PD9=Tc`M{?kcS{"
        "|hr9#wPAO+>F${SG@-"
        "E1`A@6}a3V96jUdT3NN6Nk}T*w~e3}hd206B!5g&aYC67o}04s7u><b9BzfxI7b4)U{*pM!h=@<GUlq#WAfFy!YUzW{k0@{5pPg8"
        "VY%S0EpO{Hm0*wm1s;HOR*xABX%p<P(tJfcz%pw;;bQ<;WKAKz<kUNyzU(ejoBF$fqI4kn_2eh(tlZzIE2Ht>Wo6!?6-"
        "sU8^LkXHCeOvChcqTV+`T>#VGybxzi-"
        "H7RRkRdQ{nV_Q|oQ;?@2&p@t0u0w7>o`rlK@&zfowlxR&BIHYuKY;up<jashg8cF6Hj%X!t{CYbg&SE5^SSnvXIl$bjh2=wO-"
        "&Y);!<aB&WQ8z-LtwL=e1OIwvtb3i=X|x+%inL^9=o>KBt*-hb`rPx}s@E()!HI-In%0e|@9L+x+8paBu5PT|RouMq^T+>l2gmFJ"
        "Hr08puuePs_uWHXj>T^cDI8IbP!KJ2Q8WYWm5Rv6Q=12-"
        "<>enx<>_htnzT!hiI!yEWtRm#tMP`dXm(@Pl3d`~Sf~SvxgdmoI(3WN5k}QPbzo8$xgC>PJ&=O%VN4zJ221z)iewRFcQdzt8Ft<!"
        "YneFVv{Xf6J{_OT9PUt7|<%J*4~k@GO^Cmsg#iFm%18iAFNl(C3!TNAg^2s&OW%wHM<?tiFk~4t@Gv^K)_Imr_1TVlRw*JC4F)p^"
        "y}_uKWYCP>^4CvW3Ks{DL3(e&#Qv^!-c"
    )
)
"""By Redis 7.0: strings, collections of all types, a stream with a group, a library, two databases."""

MARIADB = rb"""/*M!999999\- enable the sandbox mode */
-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)
/*!40101 SET NAMES utf8mb4 */;

CREATE DATABASE /*!32312 IF NOT EXISTS*/ `od``d 'n ame` /*!40100 DEFAULT CHARACTER SET latin1 */;

USE `od``d 'n ame`;
CREATE TABLE `t` (
  `a` int(11) DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
LOCK TABLES `t` WRITE;
INSERT INTO `t` VALUES
(42);
UNLOCK TABLES;

USE `shop`;
CREATE SEQUENCE `counter` start with 100 minvalue 1 cache 1000 nocycle ENGINE=InnoDB;
DO SETVAL(`counter`, 1100, 0);
CREATE TABLE `empty` (
  `id` int(11) NOT NULL
) ENGINE=InnoDB;
CREATE TABLE `parent` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `name` text DEFAULT NULL COMMENT 'INSERT INTO `t` VALUES (1)',
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=777777 DEFAULT CHARSET=latin1;
INSERT INTO `parent` VALUES
(1,'it\'s (a \\',NULL,0x00FF,-1.5e10),
(2,'',NULL,'),(\n;\\\\',3),
(3,_binary 'x','\\','\'',4);
INSERT INTO `parent` (`id`, `na``)me`) VALUES
(4,'last');
/*!50001 CREATE VIEW `halves` AS SELECT
 NULL AS `id` */;
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`%`*/ /*!50003 TRIGGER no_name BEFORE INSERT ON parent FOR EACH ROW
BEGIN
  IF NEW.name = 'no' THEN SET NEW.name = 'yes'; END IF; END
*/;;
DELIMITER ;
DELIMITER ;;
/*!50106 CREATE*/ /*!50117 DEFINER=`root`@`%`*/ /*!50106 EVENT `yearly` ON SCHEDULE EVERY 1 YEAR DO BEGIN END
*/ ;;
CREATE DEFINER=`root`@`%` FUNCTION `twice`(x int) RETURNS int(11)
    DETERMINISTIC
BEGIN RETURN x * 2; END
;;
DELIMITER ;
/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=`root`@`%` SQL SECURITY DEFINER */
/*!50001 VIEW `halves` AS select `parent`.`id` AS `id` from `parent` */;

-- Dump completed on 2026-11-27 11:54:58
"""

USERS_DUMP = rb"""-- MariaDB dump
CREATE USER IF NOT EXISTS `root`@`%` IDENTIFIED BY PASSWORD '*B69027D44F6E5EDC07F1AEAD1477967B16F28227';
CREATE USER IF NOT EXISTS `mariadb.sys`@`localhost` ACCOUNT LOCK PASSWORD EXPIRE;
/*M!100005 CREATE ROLE IF NOT EXISTS 'reader' WITH ADMIN mariadb_dump_import_role */;
GRANT ALL PRIVILEGES ON *.* TO `root`@`%` IDENTIFIED BY PASSWORD '*B69027D44F6E5E' WITH GRANT OPTION;

-- Dump completed on 2026-11-27 11:54:58
"""

ROLES = rb"""--
-- PostgreSQL database cluster dump
--

\restrict uLowV9nWQgC4B3HUMOlfsfDHMovMQhdTvffXAVYKUC0KerDy5rhlupiUeYqAr41

SET client_encoding = 'UTF8';
CREATE ROLE app;
ALTER ROLE app WITH LOGIN PASSWORD 'SCRAM-SHA-256$4096:cQAHEGex==$D9s38Q=:a7WcNI=' VALID UNTIL 'infinity';
GRANT app TO "we ird ""x"" y" GRANTED BY boss;

\unrestrict uLowV9nWQgC4B3HUMOlfsfDHMovMQhdTvffXAVYKUC0KerDy5rhlupiUeYqAr41

--
-- PostgreSQL database cluster dump complete
--

"""


def facts(stream: bytes, store: DataStore, part: str = "", pieces: Iterator[int] | None = None) -> Facts:
    observer = observer_of(store, part)
    at = 0
    while at < len(stream):
        size = next(pieces) if pieces is not None else len(stream)
        observer.write(stream[at : at + size])
        at += size
    return observer.facts()


def archive(format_: int = tarfile.GNU_FORMAT, change: Callable[[dict[str, bytes]], object] = dict) -> bytes:
    """A tar archive of some files, the last one's name longer than a header has room for."""
    files = {
        "a/one": b"1" * 700,
        "a/two": b"",
        "./b/ü": b"2",
        "top": b"x" * 512,
        "c/" + "long" * 60: b"3",
    }
    change(files)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as tar:
        for name, type_ in ((".", tarfile.DIRTYPE), ("a", tarfile.DIRTYPE), ("a/link", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.linkname = type_, 0o755, "target" if "link" in name else ""
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), random.Random(name).randrange(1 << 30)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


STREAMS = {
    "tar": (archive(), DataStore.FILES, ""),
    "tar-pax": (archive(tarfile.PAX_FORMAT), DataStore.FILES, ""),
    "rdb": (RDB, DataStore.REDIS, ""),
    "mariadb": (MARIADB, DataStore.MYSQL, ""),
    "mariadb-users": (USERS_DUMP, DataStore.MYSQL, USERS),
    "postgres-roles": (ROLES, DataStore.POSTGRES, GLOBALS),
}


def names(found: Facts, kind: Kind) -> dict[str, int]:
    return {
        entry.name: entry.count for tally in found.tallies if tally.kind is kind for entry in tally.entries
    }


@pytest.fixture(scope="module")
def dumped(postgres_server: PostgresServer) -> Callable[[str], bytes]:
    """Fill a database by a script and return its archive, as this machine's PostgreSQL writes it."""

    def dump(url: str) -> bytes:
        # A newer psql and pg_dump than the images of the cluster have.
        command = [
            *postgres_server.as_user,
            str(postgres_server.binaries / "pg_dump"),
            "-Fc",
            "-Z0",
            "-d",
            url,
        ]
        return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

    return dump


@pytest.mark.parametrize("name", STREAMS)
def test_pieces_do_not_matter(name: str) -> None:
    stream, store, part = STREAMS[name]
    whole = facts(stream, store, part)
    assert whole.tallies
    for size in (1, 2, 3, 511, 512, 513):
        assert facts(stream, store, part, itertools.repeat(size)) == whole


@settings(max_examples=15, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", STREAMS)
def test_no_pieces_matter(name: str, data: st.DataObject) -> None:
    stream, store, part = STREAMS[name]
    sizes = data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=9))
    random_sizes = random.Random(str(sizes))
    pieces = iter(lambda: random_sizes.choice(sizes), 0)
    assert facts(stream, store, part, pieces) == facts(stream, store, part)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_cut_has_no_facts(name: str) -> None:
    stream, store, part = STREAMS[name]
    # Nothing counts behind the two blocks of zeros of a tar archive, and the last word of a dump.
    needed = {"tar": 1024 + len(stream.rstrip(b"\0")) // 512 * 512 + 512, "rdb": len(stream) - 40}
    end = needed.get(
        name.partition("-")[0], len(stream.rstrip()) - len(b"complete\n-- on 2026-11-27 11:54:58")
    )
    for length in (*range(0, end, max(1, end // 150)), end - 1):
        with pytest.raises(ContentBroken):
            facts(stream[:length], store, part)


def test_what_a_tar_archive_holds() -> None:
    found = facts(archive(), DataStore.FILES)
    assert names(found, Kind.FILES) == {".": 1, "a": 4, "b": 1, "c": 1}
    assert found.tallies[0].size == 700 + 1 + 512 + 1


def test_the_order_and_times_of_files_do_not_matter() -> None:
    def turned(files: dict[str, bytes]) -> None:
        for name in list(files)[::-1]:
            files[name] = files.pop(name)

    others = (archive(tarfile.PAX_FORMAT), archive(change=turned))
    for other in others:
        assert other != archive()
        assert facts(other, DataStore.FILES) == facts(archive(), DataStore.FILES)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda files: files.update({"top": b"y" * 512}),
            "directory .: 1 files as recorded, but with other content",
        ),
        (lambda files: files.pop("a/two"), "directory a: 4 files recorded, 3 found"),
        (lambda files: files.pop("./b/ü"), "directory b: recorded with 1 files, not found"),
        (lambda files: files.update({"d": b""}), "directory .: 1 files recorded, 2 found"),
        (
            lambda files: files.update({"a/one": files["a/two"], "a/two": files["a/one"]}),
            "directory a: 4 files as recorded, but with other content",
        ),
    ],
    ids=["changed", "lost", "directory", "more", "exchanged"],
)
def test_one_file_that_is_another(change: Callable[[dict[str, bytes]], object], line: str) -> None:
    recorded, found = facts(archive(), DataStore.FILES), facts(archive(change=change), DataStore.FILES)
    assert differences(recorded, found) == (line,)


def test_every_byte_of_a_tar_archive_that_says_something() -> None:
    stream, whole = archive(), facts(archive(), DataStore.FILES)
    content = stream.index(b"1" * 700)
    for at in range(content, content + 700, 7):
        changed = stream[:at] + b"z" + stream[at + 1 :]
        assert facts(changed, DataStore.FILES) != whole


def test_what_an_rdb_file_holds() -> None:
    found = facts(RDB, DataStore.REDIS)
    assert names(found, Kind.KEYS) == {"0": 12, "3": 1}
    assert names(found, Kind.EXPIRING_KEYS) == {"0": 1}
    assert next(each.count for each in found.tallies if each.kind is Kind.LIBRARIES) == 1
    assert found.at_ms is not None
    assert found.expires_ms is not None
    assert 0 < found.expires_ms - found.at_ms <= 100_000_000
    # Without the mark that the tool leaves behind it.
    assert facts(RDB[:-40], DataStore.REDIS) == found


def test_an_rdb_file_is_checked_against_its_checksum() -> None:
    with pytest.raises(ContentBroken, match="checksum"):
        facts(RDB.replace(b"database", b"datebase"), DataStore.REDIS)
    for at in range(9, len(RDB) - 41, 13):
        changed = RDB[:at] + bytes((RDB[at] ^ 4,)) + RDB[at + 1 :]
        assert broken_or_unread(changed), at


def broken_or_unread(stream: bytes) -> bool:
    """Whether an RDB file has no facts: some changes make something of it that is not known."""
    try:
        return bool(facts(stream, DataStore.REDIS).unread)
    except ContentBroken:
        return True


def rdb(*keys: bytes, version: bytes = b"0010") -> bytes:
    """An RDB file without a checksum."""
    return b"REDIS" + version + b"\xfe\0" + b"".join(keys) + b"\xff" + bytes(8)


def text(content: bytes) -> bytes:
    return bytes((len(content),)) + content


def packed(*elements: bytes) -> bytes:
    """A listpack of short strings."""
    body = b"".join(bytes((0x80 | len(each),)) + each + bytes((len(each) + 1,)) for each in elements)
    return text(struct.pack("<IH", len(body) + 7, len(elements)) + body + b"\xff")


def zipped(*elements: bytes) -> bytes:
    """A ziplist of short strings."""
    body, before = b"", 0
    for each in elements:
        body += bytes((before, len(each))) + each
        before = len(each) + 2
    return text(struct.pack("<IIH", len(body) + 11, 0, len(elements)) + body + b"\xff")


@pytest.mark.parametrize(
    "forms",
    [
        (
            b"\2\1s\2" + text(b"a") + text(b"b"),
            b"\2\1s\2" + text(b"b") + text(b"a"),
            b"\x14\1s" + packed(b"b", b"a"),
        ),
        (b"\2\1s\2\xc0\5\xc1\x39\x30", b"\x0b\1s" + text(struct.pack("<IIhh", 2, 2, 12345, 5))),
        (
            b"\4\1h\2" + text(b"f") + text(b"1") + text(b"g") + text(b"2"),
            b"\x10\1h" + packed(b"g", b"2", b"f", b"1"),
            b"\x0d\1h" + zipped(b"g", b"2", b"f", b"1"),
        ),
        (
            b"\5\1z\2" + text(b"m") + struct.pack("<d", 1.5) + text(b"n") + struct.pack("<d", float("-inf")),
            b"\3\1z\2" + text(b"n") + b"\xff" + text(b"m") + text(b"1.5"),
            b"\x11\1z" + packed(b"n", b"-inf", b"m", b"1.5"),
            b"\x0c\1z" + zipped(b"n", b"-inf", b"m", b"1.5"),
        ),
        (
            b"\1\1l\3" + text(b"x") + text(b"y") + text(b"z"),
            b"\x0a\1l" + zipped(b"x", b"y", b"z"),
            b"\x0e\1l\2" + zipped(b"x") + zipped(b"y", b"z"),
            b"\x12\1l\2\2" + packed(b"x", b"y") + b"\1" + text(b"z"),
        ),
    ],
    ids=["set", "integers", "hash", "zset", "list"],
)
def test_the_form_of_a_collection_does_not_matter(forms: tuple[bytes, ...]) -> None:
    found = [facts(rdb(form), DataStore.REDIS) for form in forms]
    assert found == found[:1] * len(forms)
    other = forms[0][:-1] + bytes((forms[0][-1] ^ 1,))
    assert facts(rdb(other), DataStore.REDIS) != found[0]


def test_the_order_of_a_list_matters() -> None:
    one, other = (b"\1\1l\2" + text(a) + text(b) for a, b in ((b"x", b"y"), (b"y", b"x")))
    assert facts(rdb(one), DataStore.REDIS) != facts(rdb(other), DataStore.REDIS)


def expiring(at_ms: int, made: int, key: bytes = b"k") -> bytes:
    """A file made `made` seconds after 1970, with a key that stays and one that expires."""
    ctime = b"\xfa" + text(b"ctime") + text(b"%d" % made)
    return rdb(
        ctime,
        b"\0" + text(b"stays") + text(b"v"),
        b"\xfc" + struct.pack("<Q", at_ms),
        b"\0" + text(key) + text(b"v"),
    )


def test_keys_that_expire_are_compared_as_long_as_they_are_there() -> None:
    recorded = facts(expiring(9_000_000, 1000), DataStore.REDIS)
    assert names(recorded, Kind.EXPIRING_KEYS) == {"0": 1}
    lost = rdb(b"\xfa" + text(b"ctime") + text(b"2000"), b"\0" + text(b"stays") + text(b"v"))
    assert differences(recorded, facts(lost, DataStore.REDIS)) == (
        "database 0: recorded with 1 keys that expire, not found",
    )
    for late in (
        facts(lost.replace(b"2000", b"9000"), DataStore.REDIS),
        facts(expiring(9_000_000, 9000), DataStore.REDIS),
    ):
        assert differences(recorded, late) == ()
    # Gone by its own clock when the dump was made, though the server had not noticed.
    assert names(facts(expiring(900_000, 1000), DataStore.REDIS), Kind.EXPIRING_KEYS) == {}


def test_what_is_not_known_is_said_and_is_no_proof() -> None:
    for stream in (rdb(version=b"0099"), rdb(b"\x63\1k\1v"), rdb(b"\xf7")):
        found = facts(stream, DataStore.REDIS)
        assert found.unread
        assert not found.tallies
        assert len(differences(found, found)) == 2
    assert facts(b"PGDMP\1\x63\0\4\x08\1", DataStore.POSTGRES, "database-0").unread
    with pytest.raises(ContentBroken):
        facts(b"REDIS-7.0", DataStore.REDIS)


def test_packed_values() -> None:
    ints = b"\x11\1" + b"\xdf\xff\2" + b"\xc8\1\2" + b"\xf1\0\x80\3" + b"\xf2\1\0\x80\4"
    ints += b"\xf3\1\0\0\x80\5" + b"\xf4" + b"\xff" * 8 + b"\x09"
    long = (
        b"\xe0\xc8" + b"q" * 200 + b"\1\xca" + b"\xf0" + struct.pack("<I", 5000) + b"r" * 5000 + b"\x27\x8d"
    )
    body = struct.pack("<IH", len(ints + long) + 7, 8) + ints + long + b"\xff"
    assert listpack(body) == [
        b"17", b"-1", b"2049", b"-32768", b"-8388607", b"-2147483647", b"-1", b"q" * 200, b"r" * 5000,
    ]  # fmt: skip
    zips = (
        b"\0\xf1\2\xfe\xff\3\xc0\0\x80\4\xf0\1\0\x80\5\xd0\1\0\0\x80\6\xe0"
        + b"\xff" * 8
        + b"\xfe\0\1\0\0\x40\xc8"
        + b"q" * 200
    )
    zips += b"\xcb\x80\0\0\x13\x88" + b"r" * 5000
    assert ziplist(struct.pack("<IIH", len(zips) + 11, 0, 8) + zips + b"\xff") == [
        b"0", b"-1", b"-32768", b"-8388607", b"-2147483647", b"-1", b"q" * 200, b"r" * 5000,
    ]  # fmt: skip
    assert integers(struct.pack("<IIqq", 8, 2, -1, 1 << 40)) == [b"-1", b"1099511627776"]
    folded = b"\1ab" + b"\xe0\1\1" + b"\0c" + b"\x20\2"
    assert uncompressed(folded, 16) == b"ab" * 6 + b"cbab"[:1] + b"abc"
    for damaged in (b"", b"\0", body[:-2], body + b"x"):
        with pytest.raises((IndexError, ValueError)):
            listpack(damaged)


def test_the_checksum_of_rdb_files() -> None:
    for size in (0, 1, 9, 100_000):
        data, whole, pieces = random.Random(size).randbytes(size), Crc64(), Crc64()
        whole.update(data)
        for start in range(0, size, 1000):
            pieces.update(data[start : start + 1000])
        assert whole.value == pieces.value
    known = Crc64()
    known.update(b"123456789")
    assert known.value == 0xE9C6D914C4B8D9CA


def test_what_a_mariadb_dump_holds() -> None:
    found = facts(MARIADB, DataStore.MYSQL)
    assert names(found, Kind.TABLES) == {"od`d 'n ame.t": 1, "shop.empty": 0, "shop.parent": 4}
    assert names(found, Kind.SEQUENCES) == {"shop.counter": 1100, "shop.parent (next id)": 777777}
    assert names(found, Kind.DEFINITIONS) == {
        "DATABASE": 1, "EVENT": 1, "ROUTINE": 1, "SEQUENCE": 1, "TABLE": 3, "TRIGGER": 1, "VIEW": 1,
    }  # fmt: skip


def test_how_rows_are_divided_into_statements_and_lines_does_not_matter() -> None:
    rows = b"(1,'it\\'s (a \\\\',NULL,0x00FF,-1.5e10),\n(2,"
    assert rows in MARIADB
    others = (
        MARIADB.replace(b"),\n(", b"),(").replace(b"VALUES\n(", b"VALUES ("),
        MARIADB.replace(b"),\n(3", b");\nINSERT INTO `parent` VALUES\n(3"),
    )
    for other in others:
        assert facts(other, DataStore.MYSQL) == facts(MARIADB, DataStore.MYSQL)


@pytest.mark.parametrize("limit", [1, 30, 60])
def test_a_row_that_is_too_long_to_be_kept(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    whole = facts(MARIADB, DataStore.MYSQL)
    monkeypatch.setattr(mariadb, "LONGEST", limit)
    # Statements are then not seen to their ends: only what stands between them is looked at.
    start, end = MARIADB.index(b"(1,"), MARIADB.index(b";\nINSERT INTO `parent` (")
    for size in (1, 2, 7, 1000):
        observer = mariadb.MariadbObserver()
        observer.write(MARIADB[:start])
        for at in range(start, end + 1, size):
            observer.write(MARIADB[at : min(at + size, end + 1)])
        observer.write(MARIADB[end + 1 :])
        assert observer.facts() == whole


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (b"(42)", b"(43)", "table od`d 'n ame.t: 1 rows as recorded, but with other content"),
        (
            b",\n(2,''",
            b",\n(2,'x'",
            "table shop.parent: 4 rows as recorded, but with other content: 100 bytes recorded, 101 found",
        ),
        (b"INSERT INTO `t` VALUES\n(42);\n", b"", "table od`d 'n ame.t: 1 rows recorded, 0 found"),
        (b"1100, 0", b"1101, 0", "sequence shop.counter: 1100 recorded, 1101 found"),
        (
            b"TRIGGER no_name",
            b"TRIGGER some_name",
            "definitions of kind TRIGGER: 1 as recorded, but with other content",
        ),
    ],
)
def test_one_value_that_is_another(before: bytes, after: bytes, line: str) -> None:
    assert before in MARIADB
    recorded = facts(MARIADB, DataStore.MYSQL)
    assert differences(recorded, facts(MARIADB.replace(before, after), DataStore.MYSQL)) == (line,)


@pytest.mark.parametrize("name", ["mariadb-users", "postgres-roles"])
def test_passwords_and_keys_of_one_dump_are_left_out(name: str) -> None:
    stream, store, part = STREAMS[name]
    other = stream.replace(b"B69027D44F", b"AAAAAAAAAA").replace(b"SCRAM-SHA-256$4096", b"SCRAM-SHA-256$9999")
    other = other.replace(b"uLowV9nWQg", b"AAAAAAAAAA").replace(b"11:54:58", b"12:00:00")
    assert other != stream
    assert facts(other, store, part) == facts(stream, store, part)
    for before, after in ((b"app;", b"other;"), (b"WITH GRANT OPTION", b""), (b"infinity", b"2027-01-01")):
        if before in stream:
            assert facts(stream.replace(before, after), store, part) != facts(stream, store, part)


FILLED = """
CREATE TABLE t (id bigserial PRIMARY KEY, name text, raw bytea);
INSERT INTO t (name, raw) SELECT CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE E'ü\\.\n' || n END,
  decode(md5(n::text), 'hex') FROM generate_series(1, 500) n;
CREATE TABLE lines (line text); INSERT INTO lines VALUES (''), ('\\.'), (repeat('x', 3000000));
CREATE TABLE "em ""pty" (a int); CREATE INDEX ON t (name); CREATE VIEW v AS SELECT 1 AS x;
SELECT lo_from_bytea(4711, '\\x0001'), lo_from_bytea(4712, '\\x02');
"""


def filled(server: PostgresServer, *statements: str) -> str:
    """Make a database and return its URL."""
    url = server.new_database()
    command = [*server.as_user, str(server.binaries / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]
    script = ";".join((FILLED, *statements))
    subprocess.run(command, input=script.encode(), check=True, capture_output=True, timeout=60)
    return url


def test_a_postgres_database(postgres_server: PostgresServer, dumped: Callable[[str], bytes]) -> None:
    stream = dumped(filled(postgres_server))
    found = facts(stream, DataStore.POSTGRES, "database-0")
    assert names(found, Kind.TABLES) == {'public.em "pty': 0, "public.lines": 3, "public.t": 500}
    assert names(found, Kind.SEQUENCES) == {"public.t_id_seq": 500}
    assert names(found, Kind.LARGE_OBJECTS) == {"": 2}
    assert (
        names(found, Kind.DEFINITIONS).items() >= {"TABLE": 3, "INDEX": 1, "VIEW": 1, "CONSTRAINT": 1}.items()
    )
    for size in (7, 1000, 65536):
        assert facts(stream, DataStore.POSTGRES, "database-0", itertools.repeat(size)) == found
    for length in (*range(0, len(stream), len(stream) // 200), len(stream) - 1):
        with pytest.raises(ContentBroken):
            facts(stream[:length], DataStore.POSTGRES, "database-0")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("UPDATE t SET name = name WHERE id % 2 = 0", None),
        (
            "UPDATE t SET raw = '' WHERE id = 7",
            "table public.t: 500 rows as recorded, but with other content",
        ),
        ("DELETE FROM t WHERE id = 7", "table public.t: 500 rows recorded, 499 found"),
        ("DELETE FROM lines WHERE line = ''", "table public.lines: 3 rows recorded, 2 found"),
        ("SELECT lo_put(4712, 0, '\\x03')", "large objects: 2 as recorded, but with other content"),
        ("SELECT lo_unlink(4712)", "large objects: 2 recorded, 1 found"),
        ("SELECT nextval('t_id_seq')", "sequence public.t_id_seq: 500 recorded, 501 found"),
        ("DROP VIEW v", "definitions of kind VIEW: recorded with 1, not found"),
        (
            "ALTER INDEX t_name_idx RENAME TO x",
            "definitions of kind INDEX: 1 as recorded, but with other content",
        ),
    ],
)
def test_one_row_of_postgres_that_is_another(
    postgres_server: PostgresServer, dumped: Callable[[str], bytes], change: str, line: str | None
) -> None:
    recorded, found = (
        facts(dumped(filled(postgres_server, *statements)), DataStore.POSTGRES, "database-0")
        for statements in ((), (change,))
    )
    # Databases of this test have different names.
    lines = [each for each in differences(recorded, found) if "of kind DATABASE" not in each]
    assert [each.partition(": 2")[0] if "bytes" in each else each for each in lines] == (
        [line] if line else []
    )


def tables(rows: dict[str, int]) -> Facts:
    counting = Counting(Kind.TABLES)
    for name, count in rows.items():
        counting.add(name, count, count, count)
    return Facts(format="postgres", tallies=(counting.tally(),))


def test_thousands_of_tables_take_little_room_and_none_is_lost() -> None:
    rows = {f"public.table_{number:05}": number for number in range(5000)}
    recorded = tables(rows)
    assert len(recorded.model_dump_json()) < 8192
    assert len(names(recorded, Kind.TABLES)) > 20
    assert differences(recorded, tables(rows)) == ()
    assert differences(recorded, tables({**rows, "public.table_00003": 9})) == (
        "table public.table_00003: 3 rows recorded, 9 found",
    )
    rest = sum(rows.values()) - sum(names(recorded, Kind.TABLES).values())
    assert differences(recorded, tables({**rows, "public.table_04000": 9})) == (
        f"tables that are not listed by name: {rest} rows recorded, {rest - 3991} found",
    )
    lost = dict(rows)
    del lost["public.table_00003"]
    assert differences(recorded, tables(lost)) == (
        "table public.table_00003: recorded with 3 rows, not found",
    )
    # Two that would make up for each other in a sum.
    changed = {**rows, "public.table_04000": 4001, "public.table_04001": 4000}
    (line,) = differences(recorded, tables(changed))
    assert line.endswith("but with other content")
    assert Facts.model_validate_json(recorded.model_dump_json()) == recorded


def test_more_names_than_are_kept() -> None:
    rows = {f"t{number}": 1 for number in range(MOST_NAMES + 5)}
    recorded = tables(rows)
    assert names(recorded, Kind.TABLES) == {}
    assert differences(recorded, tables(rows)) == ()
    (line,) = differences(recorded, tables({**rows, "t7": 2}))
    assert (
        line == f"tables that are not listed by name: {MOST_NAMES + 5} rows recorded, {MOST_NAMES + 6} found"
    )
