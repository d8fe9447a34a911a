"""The commands of `exec-dump` and `live-copy`: what writes a store's data to stdout, and what reads it back.

They run in the service's own container, with the tools and passwords that it has; a password is never on a
command line. Each dump is one or more parts, streams of their own. Restores take the place of what is there,
and can be done again from the beginning: one that was cut has to be.

Shell scripts here end at the first command that fails: they may be ended from outside at any line, and what
is ended is told by its status, not by a missing line.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from workflows.domain.blueprint_models import DataStore, Service, VolumeType

GLOBALS: Final = "globals"
USERS: Final = "users"


@dataclass(frozen=True, slots=True)
class Part:
    """One stream of a component.

    `key` is its name in the object store and in what it is sealed for; `subject` what it is of: a database,
    the path where a volume is mounted. `dump` writes it to stdout, `restore` reads it from stdin.
    """

    key: str
    subject: str
    dump: tuple[str, ...]
    restore: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Databases:
    """The databases of a PostgreSQL server; to one that is `closed` nobody may connect, nor a dump."""

    open: tuple[str, ...]
    closed: tuple[str, ...]


def postgres_databases() -> tuple[str, ...]:
    """The command that lists the databases of a PostgreSQL server, for `databases_of`."""
    # The server's own two templates are there already where something is restored.
    query = (
        "SELECT CASE WHEN datallowconn THEN 'o' ELSE 'c' END || datname FROM pg_database "
        "WHERE datname NOT IN ('template0', 'template1') ORDER BY datname"
    )
    return _shell(f'psql -X -A -t -0 -w -d template1 -c "{query}"', prelude=_POSTGRES)


def databases_of(listed: bytes) -> Databases:
    """Read what `postgres_databases` wrote: each name behind a letter, ended by a NUL."""
    names = [each.decode() for each in listed.split(b"\0") if each]
    return Databases(*(tuple(name[1:] for name in names if name[0] == letter) for letter in "oc"))


def postgres_parts(databases: Iterable[str]) -> tuple[Part, ...]:
    """The parts of a PostgreSQL server, in the order in which they are restored.

    Each database is of one point, that of its dump's transaction; two databases of one server are of two.
    """
    roles = Part(
        key=GLOBALS,
        subject=GLOBALS,
        dump=_shell("exec pg_dumpall -w -l template1 --globals-only --no-tablespaces", prelude=_POSTGRES),
        restore=_shell(_RESTORE_GLOBALS, prelude=_POSTGRES),
    )
    return roles, *(
        Part(
            key=f"database-{number}",
            subject=name,
            # Not compressed: we do that, faster, and better than once more over what is compressed already.
            dump=_shell(
                'exec pg_dump -w -d "$(conninfo "$1")" -Fc -Z0 --no-tablespaces',
                name,
                prelude=_POSTGRES,
            ),
            restore=_shell(_RESTORE_DATABASE, name, prelude=_POSTGRES),
        )
        for number, name in enumerate(databases)
    )


def mariadb_parts() -> tuple[Part, ...]:
    """The parts of a MariaDB server, in the order in which they are restored.

    The data of all its databases is of one point, as far as its tables have transactions. Users come last:
    what they may do names tables and routines that have to be there. Other servers of this kind have no tool
    that writes users down, and are refused by the lack of it.
    """
    return (
        Part(
            key="data",
            subject="data",
            dump=_shell(_DUMP_MARIADB, prelude=_MARIADB),
            restore=_shell(_RESTORE_MARIADB, prelude=_MARIADB),
        ),
        Part(
            key=USERS,
            subject=USERS,
            dump=_shell("exec mariadb-dump $options --system=users --insert-ignore", prelude=_MARIADB),
            restore=_shell(_RESTORE_MARIADB_USERS, prelude=_MARIADB),
        ),
    )


def mariadb_version() -> tuple[str, ...]:
    """The command that says which server answers; its version names MariaDB, where it is one."""
    return _shell('exec mariadb $options -N -B -e "SELECT VERSION()"', prelude=_MARIADB)


def is_mariadb(version: bytes) -> bool:
    """Whether what `mariadb_version` said is of a server that can be dumped."""
    return b"MariaDB" in version


def redis_parts() -> tuple[Part, ...]:
    """The one part of a Redis server: of one point, that of its fork."""
    return (
        Part(
            key="rdb",
            subject="rdb",
            dump=_shell("exec redis-cli --rdb -", prelude=_REDIS),
            restore=_shell(_RESTORE_REDIS, prelude=_REDIS),
        ),
    )


KEPT_AS_FILES: Final = frozenset({DataStore.FILES, DataStore.MONGODB})
"""Stores that are taken and brought back as the files that they are, below the processes that use them."""


def file_parts(service: Service) -> tuple[Part, ...]:
    """The parts of a service that keeps files: each volume of it that lasts."""
    return tuple(
        Part(
            key=f"volume-{volume.name}",
            subject=volume.mount_path,
            dump=_shell(_TAR, volume.mount_path),
            restore=_shell(_UNTAR, volume.mount_path),
        )
        for volume in service.volumes
        if volume.type is VolumeType.PVC
    )


def fixed_parts(store: DataStore, service: Service) -> tuple[Part, ...] | None:
    """The parts of a component that are known from its Blueprint; None when the server has to be asked."""
    match store:
        case DataStore.REDIS:
            return redis_parts()
        case DataStore.FILES | DataStore.MONGODB:
            return file_parts(service)
        case DataStore.MYSQL:
            return mariadb_parts()
        case DataStore.POSTGRES:
            return None
        case _:
            assert_never(store)


def stored_parts(store: DataStore, service: Service, subjects: Mapping[str, str]) -> tuple[Part, ...]:
    """The parts of a component that was stored, in the order of restoring; `subjects`: by the parts' keys."""
    parts = fixed_parts(store, service)
    if parts is not None:
        return parts
    # By their keys: a database may be called what the part with the roles is called.
    return postgres_parts(subject for key, subject in subjects.items() if key != GLOBALS)


def _shell(script: str, *arguments: str, prelude: str = "") -> tuple[str, ...]:
    return ("sh", "-c", f"set -e\n{prelude}{script}", "perdure", *arguments)


# A database's name may look like a connection string, and then is taken for one: so it is put into one.
_POSTGRES: Final = r"""
user="${POSTGRES_USER:-postgres}"
if [ -z "${POSTGRES_PASSWORD:-}" ] && [ -r "${POSTGRES_PASSWORD_FILE:-}" ]; then
  POSTGRES_PASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")"
fi
export PGPASSWORD="${POSTGRES_PASSWORD:-}" PGCLIENTENCODING=UTF8 PGCONNECT_TIMEOUT=10 PGOPTIONS=
export PGHOST=127.0.0.1 PGUSER="$user"
conninfo() { printf "dbname='%s'" "$(printf %s "$1" | sed "s/[\\']/\\\\&/g")"; }
"""

# The server has its first role already, under the password that this environment's services know, and the
# dump brings that of another. All in one transaction: nobody sees the wrong one, and half of it is nothing.
_RESTORE_GLOBALS: Final = r"""
roles="$(sed -E 's/^CREATE ROLE (.*);$/SELECT pg_temp.perdure_role($perdure$CREATE ROLE \1$perdure$);/')"
{
  cat <<'SQL'
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE FUNCTION pg_temp.perdure_role(command text) RETURNS void LANGUAGE plpgsql AS $function$
BEGIN EXECUTE command; EXCEPTION WHEN duplicate_object THEN NULL; END $function$;
SQL
  printf '%s\n' "$roles"
  [ -z "$PGPASSWORD" ] || cat <<'SQL'
\set perdure_user `printf %s "$PGUSER"`
\set perdure_password `printf %s "$PGPASSWORD"`
ALTER ROLE :"perdure_user" PASSWORD :'perdure_password';
SQL
  echo 'COMMIT;'
} | psql -X -q -w -v ON_ERROR_STOP=1 -d template1 -f - >/dev/null
"""

# pg_restore reads only what follows the connection, so that the old database is gone before. A template
# cannot be dropped; what is restored is made one again, if it was when it was dumped.
_RESTORE_DATABASE: Final = r"""
psql -X -q -w -v ON_ERROR_STOP=1 -v name="$1" -d template1 <<'SQL'
SET client_min_messages = warning;
SELECT format('ALTER DATABASE %I IS_TEMPLATE false', datname) FROM pg_database
  WHERE datname = :'name' AND datistemplate \gexec
DROP DATABASE IF EXISTS :"name" WITH (FORCE);
SQL
exec pg_restore -w -d template1 --create --exit-on-error --no-tablespaces
"""

_MARIADB: Final = r"""
command -v mariadb-dump >/dev/null || { echo 'there is no mariadb-dump in this container' >&2; exit 127; }
root="${MARIADB_ROOT_PASSWORD:-${MYSQL_ROOT_PASSWORD:-}}"
file="${MARIADB_ROOT_PASSWORD_FILE:-${MYSQL_ROOT_PASSWORD_FILE:-}}"
if [ -z "$root" ] && [ -r "$file" ]; then root="$(cat "$file")"; fi
export MYSQL_PWD="$root"
options="--no-defaults --protocol=tcp -h 127.0.0.1 -u root"
options="$options --default-character-set=utf8mb4 --max-allowed-packet=1G"
"""

# A directory in the server's that it did not name itself, `lost+found` for one, is told as a schema
# `#mysql50#...`, and no server makes one of that name. A name may begin with a dash. One of two lines is not
# taken for two: there is no database of the name that the tool is given, and it says so.
#
# A row that is not of the past has the last of all times as its end, another one since MariaDB 11.5: by the
# wrong one the server takes rows for past ones. So the dump of a history asks who loads it, before it changes
# anything. That comes out with the tool's first line, not before: the first bytes say that the dump's point
# is fixed.
_DUMP_MARIADB: Final = r"""
names="$(mariadb $options -N -B -r -e "SELECT REPLACE(schema_name, CHAR(10 USING utf8mb4), ' <line end> ')
  FROM information_schema.schemata
  WHERE schema_name NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')
  AND schema_name NOT LIKE '#mysql50#%' ORDER BY 1")"
set --
while IFS= read -r name; do
  [ -z "$name" ] || set -- "$@" "$name"
done <<NAMES
$names
NAMES
if [ $# = 0 ]; then echo '-- There is no database.'; exit 0; fi
guard=
case "$(mariadb-dump --no-defaults --help)" in *--dump-history*)
  # The tool refuses tables whose history is of transactions, and the server to load any with a secure clock.
  other="$(mariadb $options -N -B -e "SELECT IF(FROM_UNIXTIME(2147483648) IS NULL, 'NOT NULL', 'NULL')
    WHERE EXISTS (SELECT 1 FROM information_schema.tables WHERE table_type = 'SYSTEM VERSIONED')
    AND NOT EXISTS (SELECT 1 FROM information_schema.columns
      WHERE generation_expression = 'ROW START' AND data_type = 'bigint')
    AND @@secure_timestamp NOT IN ('YES', 'REPLICATION')")"
  if [ -n "$other" ]; then
    options="$options --dump-history"
    guard="DELIMITER ;;
BEGIN NOT ATOMIC IF FROM_UNIXTIME(2147483648) IS $other THEN SIGNAL SQLSTATE '45000'
SET MESSAGE_TEXT = 'the history of tables is of MariaDB before 11.5, and this is a later one, or the reverse';
END IF; END;;
DELIMITER ;"
  fi
esac
set -- $options --single-transaction --quick --routines --events --triggers --hex-blob \
  --add-drop-database --databases -- "$@"
[ -n "$guard" ] || exec mariadb-dump "$@"
exec 3>&1
status="$({
  { mariadb-dump "$@" 3>&- 4>&- || status=$?; echo "${status:-0}" >&4; } |
    { IFS= read -r first; printf '%s\n' "$guard" "$first"; cat; } >&3 4>&-
} 4>&1)"
exit "$status"
"""

# A row may be larger as it is written (binary data twice as large) than the server takes at once. A
# connection has the limit that the server had when it was opened. It is one of the running server only: what
# was killed before it could put it back leaves that to the server's next start.
_RESTORE_MARIADB: Final = r"""
limit="$(mariadb $options -N -B -e 'SELECT @@GLOBAL.max_allowed_packet')"
trap 'mariadb $options -e "SET GLOBAL max_allowed_packet = $limit" || true' EXIT
trap 'exit 143' TERM
mariadb $options -e 'SET GLOBAL max_allowed_packet = 1073741824'
mariadb $options
"""

# The first user, and the one that the server was made with, keep the passwords of the environment that they
# are in; everybody else comes with their own. The first user's roles stay: without them it could not grant
# them, the second time.
_RESTORE_MARIADB_USERS: Final = r"""
first="[\`'](root|mysql)[\`']@"
users="$(sed -E -e "/$first.* IDENTIFIED /d" -e "/^GRANT PROXY .*$first/d")"
user="${MARIADB_USER:-${MYSQL_USER:-}}"
password="${MARIADB_PASSWORD:-${MYSQL_PASSWORD:-}}"
coded() { printf "FROM_BASE64('%s')" "$(printf %s "$1" | base64 | tr -d '\n')"; }
{
  printf '%s\n' "$users"
  if [ -n "$user" ] && [ -n "$password" ]; then
    printf "SET @who = QUOTE(%s), @how = QUOTE(%s);\n" "$(coded "$user")" "$(coded "$password")"
    echo "EXECUTE IMMEDIATE CONCAT('ALTER USER IF EXISTS ', @who, '@\"%\" IDENTIFIED BY ', @how);"
  fi
} | mariadb $options
"""

_REDIS: Final = """\
if [ -n "${REDIS_PASSWORD:-}" ]; then export REDISCLI_AUTH="$REDIS_PASSWORD"; fi
"""

# A second server loads the file, and the first becomes its replica for a moment: its data changes all at
# once, and a file that cannot be loaded changes nothing.
_RESTORE_REDIS: Final = r"""
port=16379
dir="$(mktemp -d)"
source=
auth="$(redis-cli config get masterauth | tail -n 1)"
# A replica of a server that is gone refuses every write: no end of this script leaves one, and the next takes
# back what an attempt left that nothing could end in good order.
release() {
  if redis-cli info replication | tr -d '\r' | grep -qx "master_port:$port"; then
    redis-cli replicaof no one >/dev/null
  fi
}
finish() {
  release || true
  if [ -n "$source" ]; then kill "$source" 2>/dev/null || true; wait "$source" || true; fi
  redis-cli config set masterauth "$auth" >/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 143' TERM
release
cat >"$dir/dump.rdb"
redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --dbfilename dump.rdb --save '' --appendonly no \
  --repl-diskless-sync-delay 0 --daemonize no >"$dir/log" 2>&1 &
source=$!
second() { env -u REDISCLI_AUTH redis-cli -h 127.0.0.1 -p "$port" "$@" 2>/dev/null | tr -d '\r'; }
until [ "$(second ping)" = PONG ] && second info server | grep -qx "process_id:$source"; do
  kill -0 "$source" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
  sleep 0.2
done
redis-cli config set masterauth '' >/dev/null
[ "$(redis-cli replicaof 127.0.0.1 "$port")" = OK ]
until redis-cli info replication | grep -q '^master_link_status:up'; do
  kill -0 "$source"
  sleep 0.2
done
release
"""

# GNU tar says 1 when a file changed while it was read, which is what a live copy is; others say it of faults.
_TAR: Final = """\
case "$(tar --version 2>/dev/null)" in
*GNU*)
  tar --numeric-owner --warning=no-file-changed --warning=no-file-removed -cf - -C "$1" . || [ $? = 1 ]
  ;;
*) exec tar -cf - -C "$1" . ;;
esac
"""

_UNTAR: Final = """\
find "$1" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +
exec tar -xpf - -C "$1"
"""
