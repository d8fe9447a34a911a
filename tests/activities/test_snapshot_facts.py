"""Facts of streams: the same in whatever pieces it comes, none of one that is cut, others of another."""

import base64
import io
import itertools
import random
import struct
import subprocess
import tarfile
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.snapshots.facts import ContentBroken, facts_of, mariadb, observed, observer_of, readable
from activities.snapshots.facts.crc64 import Crc64
from activities.snapshots.facts.packed import integers, listpack, uncompressed, ziplist
from activities.snapshots.facts.tallies import MOST_NAMES, Counting, Lines, sum_of
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


async def pieces_of(stream: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(stream), 1000):
        yield stream[at : at + 1000]


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_handed_on_as_it_was(name: str) -> None:
    stream, store, part = STREAMS[name]
    observer = observer_of(store, part)
    assert b"".join([piece async for piece in observed(pieces_of(stream), observer)]) == stream
    recorded = observer.facts()
    assert recorded == await facts_of(pieces_of(stream), observer_of(store, part))
    assert await readable(pieces_of(stream), observer_of(store, part), recorded) == ()
    with pytest.raises(ContentBroken):
        await readable(pieces_of(stream[: len(stream) // 2]), observer_of(store, part), recorded)


async def test_an_archive_that_is_whole_and_another() -> None:
    recorded = facts(MARIADB, DataStore.MYSQL)
    other = MARIADB.replace(b"(42)", b"(43)")
    assert len(await readable(pieces_of(other), observer_of(DataStore.MYSQL, ""), recorded)) == 1
    # What was not known when it was recorded, or was recorded in another way, is whole all the same.
    for unknown in ({"unread": "a version"}, {"version": 0}):
        before = recorded.model_copy(update=unknown)
        assert await readable(pieces_of(other), observer_of(DataStore.MYSQL, ""), before) == ()
        assert len(differences(before, recorded)) == 1


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


def test_a_tar_archive_whose_bytes_were_changed() -> None:
    stream, whole = archive(), facts(archive(), DataStore.FILES)
    content = stream.index(b"1" * 700)
    for at in range(content, content + 700, 7):
        assert facts(flipped(stream, at), DataStore.FILES) != whole
    header = content - 512
    # But for the end of the field with the header's own sum, which is two bytes of filling.
    for at in (*range(header, header + 154, 7), *range(header + 156, content, 7)):
        with pytest.raises(ContentBroken):
            facts(flipped(stream, at), DataStore.FILES)
    with pytest.raises(ContentBroken, match="no end"):
        facts(flipped(stream, len(stream.rstrip(b"\0")) // 512 * 512 + 1100), DataStore.FILES)


def linked(first: str, second: str, content: bytes) -> bytes:
    """An archive of one file with two names, as tar found them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(first)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo(second)
        member.type, member.linkname = tarfile.LNKTYPE, first
        tar.addfile(member)
    return buffer.getvalue()


def test_which_of_two_names_is_the_link_does_not_matter() -> None:
    recorded = facts(linked("a/x", "b/y", b"1"), DataStore.FILES)
    assert facts(linked("b/y", "a/x", b"1"), DataStore.FILES) == recorded
    assert differences(recorded, facts(linked("b/y", "a/x", b"2"), DataStore.FILES)) == (
        "contents of files: 1 as recorded, but with other content",
    )
    assert differences(recorded, facts(linked("b/y", "a/z", b"1"), DataStore.FILES)) == (
        "directory a: 1 files as recorded, but with other content",
    )
    (line,) = differences(recorded, facts(archive(), DataStore.FILES))
    assert "hard links" in line


def flipped(stream: bytes, at: int) -> bytes:
    return stream[:at] + bytes((stream[at] ^ 4,)) + stream[at + 1 :]


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
    with pytest.raises(ContentBroken, match="behind its end"):
        facts(RDB + b"x", DataStore.REDIS)
    for at in range(9, len(RDB) - 41, 13):
        assert broken_or_unread(flipped(RDB, at)), at


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


def timed(made: int, *fields: tuple[bytes, int]) -> list[bytes]:
    """Both forms of a hash whose fields expire by themselves, some never (0), in a file made then."""
    ctime = b"\xfa" + text(b"ctime") + text(b"%d" % made)
    first = min((expires for _, expires in fields if expires), default=0)
    start = text(b"h") + struct.pack("<Q", first)
    apart = b"".join(
        (b"\x81" + (expires - first + 1).to_bytes(8) if expires else b"\0") + text(name) + text(b"v")
        for name, expires in fields
    )
    together = packed(*(each for name, expires in fields for each in (name, b"v", b"%d" % expires)))
    return [
        rdb(ctime, b"\x18" + start + bytes((len(fields),)) + apart, version=b"0012"),
        rdb(ctime, b"\x19" + start + together, version=b"0012"),
    ]


def test_fields_of_a_hash_that_expire_are_a_key_that_does() -> None:
    one, other = (facts(each, DataStore.REDIS) for each in timed(1000, (b"f", 0), (b"g", 9_000_000)))
    assert one == other
    assert (names(one, Kind.EXPIRING_KEYS), one.expires_ms) == ({"0": 1}, 9_000_000)
    assert names(one, Kind.KEYS) == {"0": 1}
    changed = facts(timed(1000, (b"f", 0), (b"h", 9_000_000))[0], DataStore.REDIS)
    assert len(differences(one, changed)) == 1
    # Gone by its own clock when the dump was made, though the server had not noticed.
    plain = facts(rdb(b"\xfa\5ctime\0049000", b"\4\1h\1\1f\1v"), DataStore.REDIS)
    for late in timed(9000, (b"f", 0), (b"g", 9_000_000)):
        assert facts(late, DataStore.REDIS) == plain
        assert differences(one, facts(late, DataStore.REDIS)) == ()
    for some in timed(5000, (b"f", 0), (b"d", 4_000_000), (b"g", 9_000_000)):
        assert facts(some, DataStore.REDIS).tallies == one.tallies
        # Each key for itself.
        more = some[: -len(b"\xff") - 8] + b"\4\1i\1\1f\1v\xff" + bytes(8)
        assert names(facts(more, DataStore.REDIS), Kind.EXPIRING_KEYS) == {"0": 1}
    for empty in timed(9000, (b"g", 9_000_000)):
        assert not facts(empty, DataStore.REDIS).tallies


@pytest.mark.parametrize(
    "key",
    [b"\0\1k\xc4\1\1v", b"\0\1k\x82\0\0\0\1v", b"\0\1k\xc3\xc0\5", b"\x10\1h" + packed(b"f")],
    ids=["encoding", "length", "compressed", "half a pair"],
)
def test_what_no_server_writes_is_no_rdb_file(key: bytes) -> None:
    with pytest.raises(ContentBroken):
        facts(rdb(key), DataStore.REDIS)


def test_behind_an_rdb_file_is_its_mark_or_nothing() -> None:
    file = rdb(b"\0\1k\1v")
    assert facts(file + b"0a" * 20, DataStore.REDIS) == facts(file, DataStore.REDIS)
    with pytest.raises(ContentBroken, match="behind its end"):
        facts(file + b"REDIS" * 8, DataStore.REDIS)


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


def test_what_stands_in_a_body_breaks_nothing() -> None:
    begin = b"CREATE DEFINER=`root`@`%` FUNCTION"
    lines = (
        b"INSERT INTO `parent` VALUES (NEW.id, NOW());",
        b"INSERT INTO `parent` VALUES\n(NEW.id, f(1));",
        b"INSERT INTO `parent` SELECT 1;",
        b"USE `other`",
    )
    for line in lines:
        other = MARIADB.replace(b"BEGIN RETURN x", b"BEGIN\n" + line + b"\nRETURN x")
        assert begin in other
        for pieces in (None, itertools.repeat(1), itertools.repeat(13)):
            assert facts(other, DataStore.MYSQL, pieces=pieces) == facts(MARIADB, DataStore.MYSQL)
    # What looks like rows is counted as such, as it was in all that has been recorded.
    other = MARIADB.replace(b"BEGIN RETURN x", b"BEGIN\nINSERT INTO `parent` VALUES (9,'f(1)');\nRETURN x")
    assert names(facts(other, DataStore.MYSQL), Kind.TABLES)["shop.parent"] == 5


def test_rows_that_are_not_written_as_they_are_known_are_no_proof() -> None:
    for insert in (b"REPLACE INTO `t` VALUES", b"INSERT DELAYED INTO `t` VALUES", b"INSERT INTO `t` SET"):
        other = MARIADB.replace(b"INSERT INTO `t` VALUES", insert)
        assert facts(other, DataStore.MYSQL).unread
    with pytest.raises(ContentBroken, match="follows"):
        facts(MARIADB.replace(b"(42);", b"(42); DROP TABLE `t`;"), DataStore.MYSQL)
    with pytest.raises(ContentBroken, match="cut"):
        facts(MARIADB.replace(b"DELIMITER ;\n/*!50001", b"/*!50001"), DataStore.MYSQL)


HISTORY = b"""DROP TABLE IF EXISTS `told`;
CREATE TABLE `told` (
  `a` int(11) DEFAULT NULL,
  `b` varchar(9) DEFAULT NULL
) ENGINE=InnoDB WITH SYSTEM VERSIONING;
INSERT INTO `told` (`a`, `b`, row_start, row_end) VALUES \
(1,'it\\'s','2026-11-28 09:50:05.389037','2026-11-28 09:50:05.392276'),
(2,'now','2026-11-28 09:50:05.394058','2038-01-19 03:14:07.999999'),
(3,NULL,'2026-11-28 09:50:05.394058','2106-02-07 06:28:15.999999');
"""


def with_table(table: bytes) -> bytes:
    """The dump with one table more."""
    return MARIADB.replace(b"CREATE TABLE `empty`", table + b"CREATE TABLE `empty`")


def test_a_history_is_counted_beside_what_is_current() -> None:
    plain = b"INSERT INTO `told` VALUES\n(2,'now'),\n(3,NULL);\n"
    before = facts(with_table(HISTORY[: HISTORY.index(b"INSERT")] + plain), DataStore.MYSQL)
    found = facts(with_table(HISTORY), DataStore.MYSQL)
    assert names(found, Kind.TABLES)["shop.told"] == 2
    assert names(found, Kind.HISTORY) == {"shop.told": 3}
    # A snapshot that was taken without is proved by what it has; one that was taken with it, by all.
    assert differences(before, found) == ()
    assert differences(found, before) == (
        "table with its history shop.told: recorded with 3 rows, not found",
    )
    other = facts(with_table(HISTORY.replace(b"it\\'s", b"it\\'d")), DataStore.MYSQL)
    assert differences(found, other) == (
        "table with its history shop.told: 3 rows as recorded, but with other content",
    )
    with pytest.raises(ContentBroken, match="do not end with their times"):
        facts(with_table(HISTORY.replace(b"'2038-01-19 03:14:07.999999'", b"NULL")), DataStore.MYSQL)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_row_with_its_times_that_is_too_long_to_be_kept(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    dump = with_table(HISTORY)
    whole = facts(dump, DataStore.MYSQL)
    monkeypatch.setattr(mariadb, "LONGEST", 1)
    start, end = dump.index(b"(1,'it\\'s','2026"), dump.index(b";", dump.index(b"'2106"))
    observer = mariadb.MariadbObserver()
    for piece in (
        dump[:start],
        *(dump[at : min(at + size, end)] for at in range(start, end, size)),
        dump[end:],
    ):
        observer.write(piece)
    assert observer.facts() == whole


def test_a_row_that_no_server_takes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mariadb, "LONGEST", 1)
    monkeypatch.setattr(mariadb, "_LARGEST", 30)
    start = MARIADB.index(b"(1,")
    observer = mariadb.MariadbObserver()
    for at in range(start, len(MARIADB)):
        observer.write(MARIADB[at : at + 1] if at > start else MARIADB[: start + 1])
    with pytest.raises(
        ContentBroken, match=r"a row of shop\.parent takes .* bytes, and a server no more than"
    ):
        observer.facts()


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
    for small in (1, 7, 1000):
        pieces = itertools.chain(itertools.repeat(small, 20_000 // small), itertools.repeat(65536))
        assert facts(stream, DataStore.POSTGRES, "database-0", pieces) == found
    for length in (*range(0, len(stream), len(stream) // 50), len(stream) - 1):
        with pytest.raises(ContentBroken):
            facts(stream[:length], DataStore.POSTGRES, "database-0")
    # Where one table's rows end, and nothing says that there are more.
    end = stream.index(b"\\.\n\n\n\0\0\0\0\0") + 10
    with pytest.raises(ContentBroken, match="before the data of"):
        facts(stream[:end], DataStore.POSTGRES, "database-0")


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
        (
            "SELECT lo_unlink(n) FROM generate_series(4711, 4712) n; "
            "SELECT lo_from_bytea(4712, '\\x0001'), lo_from_bytea(4711, '\\x02')",
            "large objects: 2 as recorded, but with other content",
        ),
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


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_in_whatever_pieces(size: int) -> None:
    content = b"one\n\ntwo two\n\\.\n\n\n"
    lines = Lines()
    for at in range(0, len(content), size):
        lines.take(content[at : at + size])
    assert lines.drop(b"\\.\n\n\n")
    assert (lines.count, lines.size) == (3, 13)
    assert lines.value == sum_of((b"two two", b"", b"one"))
    assert not lines.drop(b"more\n")


RICH = """
CREATE SCHEMA app; COMMENT ON SCHEMA app IS 'of the app';
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE TYPE app.pair AS (a int, b text);
CREATE TABLE app.parted (id int, at date, kind varchar(9) CHECK (kind IN ('a', 'b')), PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE app.parted_1 PARTITION OF app.parted FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE app.parted_2 PARTITION OF app.parted DEFAULT;
INSERT INTO app.parted SELECT n, date '2026-01-01' + n, 'a' FROM generate_series(1, 400) n;
CREATE TABLE app.made (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c app.pair, d app.positive,
  e float8 DEFAULT 0.1, f tsvector, g int4range, h money, i interval, j inet, k bit(3),
  EXCLUDE USING gist (g WITH &&));
INSERT INTO app.made (a, c, d, f, h, i, j, k)
  VALUES (1, ROW(1, 'x,"y'), 3, 'a:1 b', 4.5, '1 mon 2 days', '::1/128', B'101');
CREATE TABLE app.child () INHERITS (app.made); INSERT INTO app.child (a) VALUES (2);
CREATE UNLOGGED TABLE app.unlogged (x "char"); INSERT INTO app.unlogged VALUES ('\\');
CREATE MATERIALIZED VIEW app.summed AS SELECT count(*) FROM app.parted;
CREATE VIEW app.seen WITH (security_barrier) AS SELECT id, kind IN ('a', 'b') AS ok FROM app.parted;
CREATE RULE nothing AS ON DELETE TO app.child DO INSTEAD NOTHING;
CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t BEFORE UPDATE ON app.made FOR EACH ROW EXECUTE FUNCTION app.f();
CREATE POLICY p ON app.made USING (a > 0); ALTER TABLE app.made ENABLE ROW LEVEL SECURITY;
CREATE STATISTICS app.s ON a, d FROM app.made; CREATE PUBLICATION pub FOR TABLE app.made;
CREATE SEQUENCE app.down INCREMENT -1 CACHE 10; SELECT nextval('app.down'), nextval('app.down');
CREATE COLLATION app.other (provider = libc, locale = 'C'); CREATE CAST (app.pair AS text) WITH INOUT;
CREATE AGGREGATE app.total (int) (SFUNC = int4pl, STYPE = int, INITCOND = 0);
GRANT SELECT (a) ON app.made TO PUBLIC; REVOKE EXECUTE ON FUNCTION app.f FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
COMMENT ON COLUMN app.made.a IS E'two\nlines'; COMMENT ON LARGE OBJECT 4711 IS 'large';
UPDATE app.parted SET at = at - 200 WHERE id % 3 = 0;
CREATE INDEX ON app.parted (kind);
"""


def test_all_kinds_of_definitions_come_back_equal(
    postgres_server: PostgresServer, dumped: Callable[[str], bytes]
) -> None:
    """Nothing that a restore keeps is told as a difference."""
    stream = dumped(filled(postgres_server, RICH))
    url = postgres_server.new_database()
    command = [
        *postgres_server.as_user,
        str(postgres_server.binaries / "pg_restore"),
        "--exit-on-error",
        "-d",
        url,
    ]
    subprocess.run(command, input=stream, check=True, capture_output=True, timeout=60)
    recorded, found = (facts(each, DataStore.POSTGRES, "database-0") for each in (stream, dumped(url)))
    assert len(names(recorded, Kind.DEFINITIONS)) > 25
    assert names(recorded, Kind.SEQUENCES)["app.down"] == -10
    lines = differences(recorded, found)
    assert [each for each in lines if "of kind DATABASE" not in each] == []


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


HUGE = 24 << 20


def huge_streams() -> dict[str, tuple[DataStore, bytes, bytes]]:
    """Of each kind what stands before and after one value that does not fit into memory."""
    member = tarfile.TarInfo("huge")
    member.size = HUGE
    split = MARIADB.index(b"it\\'s")
    return {
        "tar": (DataStore.FILES, member.tobuf(), bytes(1024)),
        "rdb": (DataStore.REDIS, b"REDIS0010\xfe\0\0\1k\x80" + HUGE.to_bytes(4), b"\xff" + bytes(8)),
        "mariadb": (DataStore.MYSQL, MARIADB[:split], MARIADB[split:]),
    }


@pytest.mark.parametrize("name", ["tar", "rdb", "mariadb"])
def test_memory_is_bounded_whatever_there_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A checksum is millions of small allocations, and tracing them takes a minute.
    monkeypatch.setattr(Crc64, "update", lambda _self, _data: None)
    store, before, after = huge_streams()[name]
    observer = observer_of(store, "")
    piece = b"x" * (256 << 10)
    tracemalloc.start()
    try:
        observer.write(before)
        for _ in range(HUGE // len(piece)):
            observer.write(piece)
        observer.write(after)
        assert sum(each.count for each in observer.facts().tallies) > 0
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
