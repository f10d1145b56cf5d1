#!/bin/sh
# make install, make uninstall: the program under /opt, the service, its user, a configuration to fill in.
# Nothing that exists under /etc/omrwatchd or /var/lib/omrwatchd is changed. May be run again, e.g. to upgrade.
#
#   DESTDIR        puts all of it below another folder, for packages; no user is made then
#   PREFIX         a folder for the program alone, not /usr/local (the unit has /opt/omrwatchd)
#   SYSTEM_PYTHON  a Python 3.11 or newer that the service's user can see
#   EXTRAS         e.g. demo, for `omrwatchd receiver`
#   PIP_FLAGS      e.g. --no-index --find-links=DIR, where there is no network
set -eu
umask 022
cd "$(dirname "$0")/.."

DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/opt/omrwatchd}
SYSTEM_PYTHON=${SYSTEM_PYTHON:-/usr/bin/python3}
EXTRAS=${EXTRAS:-}
PIP_FLAGS=${PIP_FLAGS:-}
UNITS=/usr/local/lib/systemd/system
PROGRAM=$DESTDIR$PREFIX

fail() {
    echo "omrwatchd: $*" >&2
    exit 1
}

must_be_root() {
    [ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail "This needs root: sudo make $1"
}

# what lies there is deleted by uninstall, with all that is in it
must_be_ours() {
    case $PREFIX in
        /*) ;;
        *) fail "PREFIX must be an absolute path, not $PREFIX" ;;
    esac
    [ -d "$PROGRAM/share/doc/omrwatchd" ] || [ -z "$(ls -A "$PROGRAM" 2>/dev/null)" ] \
        || fail "$PROGRAM holds other things; name a folder for omrwatchd alone with PREFIX=…"
}

check_python() {
    [ -x "$SYSTEM_PYTHON" ] || fail "There is no $SYSTEM_PYTHON; name a Python 3.11 or newer with SYSTEM_PYTHON=…"
    "$SYSTEM_PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || fail "$SYSTEM_PYTHON is older than 3.11; name another with SYSTEM_PYTHON=…"
    "$SYSTEM_PYTHON" -c 'import ensurepip, venv' 2>/dev/null \
        || fail "$SYSTEM_PYTHON can't make virtual environments: apt-get install python3-venv"
    case $("$SYSTEM_PYTHON" -c 'import sys, os; print(os.path.realpath(sys.base_prefix))')/ in
        /home/* | /root/*) fail "$SYSTEM_PYTHON lies in a home folder, which the service can't see (ProtectHome=)." ;;
    esac
}

install_program() {
    mkdir -p "$PROGRAM/share/doc/omrwatchd"
    "$SYSTEM_PYTHON" -m venv "$PROGRAM"
    # built from a copy: a build by root leaves nothing behind in the source
    source=$(mktemp -d)
    trap 'rm -rf "$source"' EXIT
    cp -R omrwatchd pyproject.toml README.md LICENSE "$source"
    # shellcheck disable=SC2086 # flags are several words
    "$PROGRAM/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade $PIP_FLAGS \
        "$source${EXTRAS:+[$EXTRAS]}"
    if [ -n "$DESTDIR" ]; then
        grep -rlIF "$PROGRAM" "$PROGRAM/bin" "$PROGRAM/pyvenv.cfg" | xargs -r sed -i "s|$PROGRAM|$PREFIX|g"
    fi
    for document in README.md config.example.toml docs/*.md deploy/systemd/examples/*; do
        install -D -m 0644 "$document" "$PROGRAM/share/doc/omrwatchd/$(basename "$document")"
    done
    mkdir -p "$DESTDIR/usr/local/bin"
    ln -sfn "$PREFIX/bin/omrwatchd" "$DESTDIR/usr/local/bin/omrwatchd"
}

knows_backoff() {
    version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 254 ]
}

install_service() {
    install -D -m 0644 deploy/systemd/omrwatchd.service "$DESTDIR$UNITS/omrwatchd.service"
    if [ "$PREFIX" != /opt/omrwatchd ]; then
        sed -i "s|/opt/omrwatchd|$PREFIX|g" "$DESTDIR$UNITS/omrwatchd.service"
    fi
    if knows_backoff; then
        install -D -m 0644 deploy/systemd/backoff.conf "$DESTDIR$UNITS/omrwatchd.service.d/backoff.conf"
    fi
    install -D -m 0644 deploy/systemd/omrwatchd.sysusers "$DESTDIR/usr/lib/sysusers.d/omrwatchd.conf"
    install -D -m 0644 deploy/systemd/omrwatchd.tmpfiles "$DESTDIR/usr/lib/tmpfiles.d/omrwatchd.conf"
}

install_skeleton() {
    mkdir -p "$DESTDIR/etc/omrwatchd"
    if [ ! -e "$DESTDIR/etc/omrwatchd/config.toml" ]; then
        # the unit hands over the token as a credential
        sed 's|^token_file = |# token_file = |' config.example.toml >"$DESTDIR/etc/omrwatchd/config.toml"
        chmod 0640 "$DESTDIR/etc/omrwatchd/config.toml"
    fi
    if [ ! -e "$DESTDIR/etc/omrwatchd/token" ]; then
        (umask 077 && : >"$DESTDIR/etc/omrwatchd/token")
    fi
}

do_install() {
    must_be_root install
    must_be_ours
    check_python
    install_program
    install_service
    install_skeleton
    if [ -z "$DESTDIR" ]; then
        systemd-sysusers /usr/lib/sysusers.d/omrwatchd.conf
        systemd-tmpfiles --create /usr/lib/tmpfiles.d/omrwatchd.conf
        [ ! -d /run/systemd/system ] || systemctl daemon-reload
    fi
    cat <<EOF
Installed: $("$SYSTEM_PYTHON" -c 'import sys; print("Python %d.%d" % sys.version_info[:2])'), $PREFIX, omrwatchd.service.
Next: /etc/omrwatchd/config.toml, /etc/omrwatchd/token, then
  install -D -m 0644 $PREFIX/share/doc/omrwatchd/folders.conf /etc/systemd/system/omrwatchd.service.d/folders.conf
  omrwatchd doctor --user omrwatchd
  systemctl enable --now omrwatchd        (after an upgrade: systemctl restart omrwatchd)
EOF
}

do_uninstall() {
    must_be_root uninstall
    must_be_ours
    if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ] && [ -e "$UNITS/omrwatchd.service" ]; then
        systemctl disable --now omrwatchd.service
    fi
    rm -f "$DESTDIR$UNITS/omrwatchd.service" "$DESTDIR$UNITS/omrwatchd.service.d/backoff.conf" \
        "$DESTDIR/usr/lib/sysusers.d/omrwatchd.conf" "$DESTDIR/usr/lib/tmpfiles.d/omrwatchd.conf" \
        "$DESTDIR/usr/local/bin/omrwatchd"
    [ ! -d "$DESTDIR$UNITS/omrwatchd.service.d" ] || rmdir --ignore-fail-on-non-empty "$DESTDIR$UNITS/omrwatchd.service.d"
    rm -rf "$PROGRAM"
    if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload
    fi
    cat <<EOF
Removed: $PREFIX and omrwatchd.service.
Left as they are: /etc/omrwatchd (configuration, token), /var/lib/omrwatchd (queue, record), the user omrwatchd,
/etc/systemd/system/omrwatchd.service.d (your drop-ins), and the scan folders.
EOF
}

case ${1:-} in
    install) do_install ;;
    uninstall) do_uninstall ;;
    *) fail "usage: $0 install|uninstall" ;;
esac
