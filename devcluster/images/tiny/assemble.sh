#!/bin/sh
# Puts busybox, the libraries it is linked with and a page to serve into an empty tree. Not the static busybox: its
# name look-ups crash or stall.
set -eu
tree=$1
mkdir -p "$tree/bin" "$tree/etc" "$tree/tmp" "$tree/www" "$tree/lib64" "$tree/proc" "$tree/sys" "$tree/dev"
chmod 1777 "$tree/tmp"
cp /bin/busybox "$tree/bin/"
for library in $(ldd /bin/busybox | grep -o '/[^ ]*'); do
    mkdir -p "$tree$(dirname "$library")"
    cp -L "$library" "$tree$library"
done
# Loaded at run time for name look-ups.
for library in libnss_dns.so.2 libnss_files.so.2 libresolv.so.2; do
    cp -L "/lib/$(uname -m)-linux-gnu/$library" "$tree/lib/$(uname -m)-linux-gnu/"
done
for tool in $(/bin/busybox --list); do
    [ "$tool" = busybox ] || ln -s busybox "$tree/bin/$tool"
done
echo 'hosts: files dns' >"$tree/etc/nsswitch.conf"
printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$tree/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$tree/etc/group"
echo ok >"$tree/www/index.html"
echo ok >"$tree/www/healthz"
cat >"$tree/bin/serve" <<'SCRIPT'
#!/bin/sh
# Answers "ok" on / and /healthz. As the first process of a container httpd would not hear SIGTERM.
httpd -f -p "$PORT" -h /www &
trap 'kill $!' TERM INT
wait $!
SCRIPT
chmod 755 "$tree/bin/serve"
