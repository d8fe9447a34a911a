"""Streams of each kind that has facts, as real programs wrote them, and what is found in them."""

import base64
import io
import random
import tarfile
import zlib
from collections.abc import Callable, Iterator

from activities.snapshots.facts import observer_of
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_dump import GLOBALS, USERS
from workflows.domain.snapshot_facts import Facts, Kind

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
    """Return the facts of a stream that comes in pieces of these sizes, or at once."""
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
    """Return the names and counts of one kind."""
    return {
        entry.name: entry.count for tally in found.tallies if tally.kind is kind for entry in tally.entries
    }


def flipped(stream: bytes, at: int) -> bytes:
    """Return the stream with one bit of this byte changed."""
    return stream[:at] + bytes((stream[at] ^ 4,)) + stream[at + 1 :]
