"""The configuration of the proxy that copies requests to a mock: nginx, told everything by what is made here.

A request goes from the proxy's port to the application at the pod's address. Its copy takes two steps: the
first hands it to a socket of the same process, which answers at once; the second brings it to the mock. nginx
holds a connection until all that belongs to its request is over, so that with one step a mock that hangs
would delay the next request on the same connection.
"""

from collections.abc import Mapping
from typing import Final

CONFIGURATION_FILE: Final = "nginx.conf"
COPIES_AT_ONCE: Final = 64
"""Copies on their way to the mock, in each pod: what comes beyond them is dropped."""
LONGEST_COPIED_DIGITS: Final = 5
"""A body is copied when its length has so many digits: up to 99,999 bytes, held in memory."""
HAND_OVER: Final = "250ms"
"""The most that the first step may take; it is what a request could be held at worst."""
ANSWER_OF_THE_MOCK: Final = "5s"
"""How long a copy may take its place among those on their way."""

MARK: Final = "X-Perdure-Mirror"
"""Header of each copy."""
STRIPPED: Final = (
    "Authorization",
    "Proxy-Authorization",
    "Cookie",
    "X-Api-Key",
    "Api-Key",
    "Apikey",
    "X-Auth-Token",
    "X-Access-Token",
    "X-Csrf-Token",
    "X-Xsrf-Token",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Client-Cert",
    "X-Amz-Security-Token",
    "X-Goog-Iap-Jwt-Assertion",
    "X-Ms-Token-Aad-Access-Token",
)
"""Headers of credentials, which a copy does not have."""

_COPY: Final = "/.perdure-mirror-copy"
"""The path at which nginx makes copies. The proxy answers 404 to requests for it."""

START: Final = """\
set -eu
rm -f /tmp/*.sock
resolvers= domain={namespace}.svc.cluster.local
while read -r key first rest || [ -n "$key" ]; do
  case $key in
    nameserver) case $first in *:*) first="[$first]" ;; esac; resolvers="$resolvers $first" ;;
    search) domain=$first ;;
  esac
  key=
done </etc/resolv.conf
case $POD_IP in *:*) POD_IP="[$POD_IP]" ;; esac
{{
  echo "resolver$resolvers valid=5s; resolver_timeout 2s;"
  echo "map '' \\$perdure_app {{ default '$POD_IP'; }}"
  echo "map '' \\$perdure_mock {{ default '{mock}.$domain'; }}"
}} >/tmp/here.conf
exec nginx -e stderr -c {configuration}
"""
"""What the container runs. nginx does not read resolv.conf, and with the mock's name written down it would
not start while that is not known; sockets of a run that was killed would keep it from starting too."""

_HTTP: Final = """\
daemon off;
worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr error;
events { worker_connections 8192; }
http {
  include /tmp/here.conf;
  access_log off;
  server_tokens off;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;

  # As little of its own as can be: what the application would take or answer, it shall.
  underscores_in_headers on;
  ignore_invalid_headers off;
  merge_slashes off;
  large_client_header_buffers 8 64k;
  client_max_body_size 0;
  client_body_buffer_size 100k;
  client_body_timeout 1h;
  send_timeout 1h;
  keepalive_timeout 650s;
  keepalive_requests 1000000;
  keepalive_time 24h;
  proxy_http_version 1.1;
  proxy_connect_timeout 60s;
  proxy_send_timeout 1h;
  proxy_read_timeout 24h;
  proxy_buffering off;
  proxy_buffer_size 64k;
  proxy_buffers 4 64k;
  proxy_busy_buffers_size 64k;
  proxy_redirect off;
  proxy_next_upstream off;
  proxy_pass_header Server;
  proxy_pass_header Date;
  proxy_pass_header X-Pad;
  proxy_pass_header X-Accel-Expires;
  proxy_pass_header X-Accel-Redirect;
  proxy_pass_header X-Accel-Limit-Rate;
  proxy_pass_header X-Accel-Buffering;
  proxy_pass_header X-Accel-Charset;
  proxy_ignore_headers X-Accel-Expires X-Accel-Redirect X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset
    Expires Cache-Control Set-Cookie Vary;
  proxy_headers_hash_max_size 1024;
  proxy_headers_hash_bucket_size 128;
  proxy_set_header Host $http_host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $perdure_connection;
  map $http_upgrade $perdure_connection { default upgrade; '' close; }

  # 1: goes through as it comes, without a copy.
  map "$http_upgrade,$http_transfer_encoding,$content_length" $perdure_streams {
    default 1;
    "~^,,[0-9]{0,%DIGITS%}$" 0;
  }
  limit_conn_zone perdure zone=perdure_copies:32k;
  limit_conn_log_level info;
  upstream perdure_taken { server unix:/tmp/taken.sock; }
  server {
    listen unix:/tmp/taken.sock;
    return 204;
  }
%SERVERS%}
"""

_SERVERS: Final = """
  upstream perdure_copy_%PORT% { server unix:/tmp/copy-%PORT%.sock; }
  server {
    listen %PROXY%;
    location / {
      if ($perdure_streams) { return 418; }
      error_page 418 = @streams;
      mirror %COPY%;
      proxy_pass http://$perdure_app:%PORT%;
    }
    location @streams {
      proxy_request_buffering off;
      proxy_pass http://$perdure_app:%PORT%;
    }
    location = %COPY% {
      internal;
      error_log stderr crit;
      proxy_connect_timeout %HAND_OVER%;
      proxy_send_timeout %HAND_OVER%;
      proxy_read_timeout %HAND_OVER%;
      proxy_set_header Host $http_host;
      proxy_set_header Connection close;
      proxy_set_header %MARK% 1;
%STRIPPED%
      proxy_pass http://perdure_copy_%PORT%$request_uri;
    }
  }
  server {
    listen unix:/tmp/copy-%PORT%.sock;
    error_log stderr crit;
    limit_conn perdure_copies %AT_ONCE%;
    location / {
      mirror %COPY%;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection close;
      proxy_pass http://perdure_taken;
    }
    location = %COPY% {
      internal;
      proxy_ignore_client_abort on;
      proxy_connect_timeout 1s;
      proxy_send_timeout %ANSWER%;
      proxy_read_timeout %ANSWER%;
      proxy_set_header Host $http_host;
      proxy_set_header Connection close;
      proxy_pass http://$perdure_mock:%MOCK%$request_uri;
    }
  }
"""


def configuration(ways: Mapping[int, tuple[int, int]]) -> str:
    """The whole `nginx.conf`; `ways`: the application's port -> the proxy's port, the mock's port."""
    stripped = "\n".join(f'      proxy_set_header {name} "";' for name in STRIPPED)
    servers = "".join(
        _filled(
            _SERVERS,
            PORT=port,
            PROXY=proxy,
            MOCK=mock,
            COPY=_COPY,
            HAND_OVER=HAND_OVER,
            ANSWER=ANSWER_OF_THE_MOCK,
            AT_ONCE=COPIES_AT_ONCE,
            MARK=MARK,
            STRIPPED=stripped,
        )
        for port, (proxy, mock) in sorted(ways.items())
    )
    return _filled(_HTTP, DIGITS=LONGEST_COPIED_DIGITS, SERVERS=servers)


def start_script(namespace: str, mock: str, path: str) -> str:
    """The shell script that starts nginx with the configuration at `path`; `mock`: name of its Service."""
    return START.format(namespace=namespace, mock=mock, configuration=path)


def _filled(text: str, **values: object) -> str:
    for name, value in values.items():
        text = text.replace(f"%{name}%", str(value))
    return text
