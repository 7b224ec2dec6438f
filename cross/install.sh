#!/bin/sh
# Installs understudy on this board, or upgrades it: the right one of the packages and archives
# that were made for this processor, after a look whether it came whole.
#
#   sh install.sh [--from DIR|URL] [--archive]
#
# --from: where packages, archives and SHA256SUMS are; the folder of this script otherwise.
# --archive: the archive, into /usr/local, also where a package could be had.
set -eu
# What root installs here others read and run.
umask 022

say() { echo "install.sh: $*"; }
fail() { echo "install.sh: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

from='' archive=false
while [ $# -gt 0 ]; do
  case "$1" in
    --from) [ $# -gt 1 ] || fail "--from DIR|URL"; from=$2; shift ;;
    --archive) archive=true ;;
    -h | --help)
      echo "sh install.sh [--from DIR|URL] [--archive]"
      echo "Installs or upgrades understudy from the packages, archives and SHA256SUMS there."
      exit 0
      ;;
    *) fail "unknown argument '$1': sh install.sh [--from DIR|URL] [--archive]" ;;
  esac
  shift
done

# Which one runs here: its name for this processor, and deb or tar.gz.
choose() {
  local_arch=''
  machine=$(uname -m)
  if has dpkg; then local_arch=$(dpkg --print-architecture); fi
  kind=deb
  case "$machine:$local_arch" in
    # Raspberry Pi OS calls them armhf too: Pi 1, Zero, Zero W.
    armv6l:*) arch=armv6 kind=tar.gz ;;
    *:amd64 | *:arm64 | *:armhf) arch=$local_arch ;;
    x86_64:) arch=amd64 kind=tar.gz ;;
    aarch64:) arch=arm64 kind=tar.gz ;;
    armv7l:* | armv8l:*) arch=armhf kind=tar.gz ;;
    *) fail "nothing was made for this processor: $machine $local_arch" ;;
  esac
  if $archive; then kind=tar.gz; fi
}

fetch() { # name, to
  case "$from" in
    http://* | https://*)
      if has curl; then
        curl -fsSL "$from/$1" -o "$2"
      elif has wget; then
        wget -q "$from/$1" -O "$2"
      else
        fail "neither curl nor wget is here: fetch $from/$1 and the rest of that folder by other means, then --from FOLDER"
      fi || fail "$from/$1 cannot be fetched${SUDO_USER:+. If that takes a proxy, sudo dropped its name: sudo --preserve-env=http_proxy,https_proxy sh install.sh --from $from}"
      ;;
    *) cp "$from/$1" "$2" || fail "$from/$1 cannot be read" ;;
  esac
}

# The newest one listed that is for this processor, checked.
fetch_chosen() {
  fetch SHA256SUMS "$work/SHA256SUMS"
  case "$kind" in
    deb) pattern="understudy_[^ ]*_$arch\.deb" ;;
    *) pattern="understudy-[^ ]*-$arch\.tar\.gz" ;;
  esac
  line=$(grep "^[0-9a-f]\{64\}  $pattern\$" "$work/SHA256SUMS" | sort -k 2 -V | tail -n 1) || true
  [ -n "$line" ] || fail "$from has no $kind for $arch"
  file=${line#*  }
  fetch "$file" "$work/$file"
  (cd "$work" && echo "$line" | sha256sum -c >/dev/null 2>&1) ||
    fail "$file is not what SHA256SUMS says: it came broken, or somebody changed it. Nothing was installed."
}

# A board may be put back, but not without a word.
tell_older() { # version that is here, version that comes
  [ -n "$1" ] && [ "$1" != "$2" ] || return 0
  [ "$(printf '%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ] || return 0
  say "understudy $1 is here, and $2 is older: this board is put back to it. Once the group makes"
  say "use of what $1 brought the older does not start: then install $1 again"
}

install_deb() {
  case $(dpkg-query -W -f '${db:Status-Status}' understudy 2>/dev/null || true) in
    installed) tell_older "$(dpkg-query -W -f '${Version}' understudy)" "$(dpkg-deb -f "$work/$file" Version)" ;;
  esac
  if has apt-get; then
    # The sources of the system need not be reachable where nothing else is missing. What was
    # built anew need not have another version: apt leaves what is there unless it is told.
    apt-get install --yes --reinstall --allow-downgrades -o Dpkg::Options::=--force-confold "$work/$file"
  else
    dpkg -i --force-confold "$work/$file"
  fi || fail "$file was not installed: the lines above say why"
  if [ -e /usr/local/lib/systemd/system/understudy.service ]; then take_out_archive; fi
}

# What an archive put there would go on being used in the place of the package's.
take_out_archive() {
  rm -rf /usr/local/lib/systemd/system/understudy.service \
    /usr/local/lib/systemd/system/understudy@.service /usr/local/bin/understudy \
    /usr/local/share/doc/understudy /usr/local/share/man/man1/understudy*.1.gz \
    /usr/local/share/bash-completion/completions/understudy \
    /usr/local/share/zsh/site-functions/_understudy /usr/local/share/fish/vendor_completions.d/understudy.fish
  say "the archive's program and units are taken out of /usr/local: the package has them"
  [ -d /run/systemd/system ] || return 0
  # What is started with the machine is the package's from now on.
  for link in /etc/systemd/system/*.wants/understudy.service /etc/systemd/system/*.wants/understudy@*.service; do
    if [ -h "$link" ]; then systemctl reenable "$(basename "$link")" || true; fi
  done
  # What `understudy unit` made names the program by its path.
  made=$(grep -l "^# Made by .understudy unit." /etc/systemd/system/*.service \
    /etc/systemd/system/*.service.d/*.conf 2>/dev/null) || true
  for unit in $made; do
    sed -i 's|/usr/local/bin/understudy|/usr/bin/understudy|g' "$unit"
    say "$unit is led to the package's program"
  done
  start_anew /usr/bin/understudy
}

make_user() {
  if id understudy >/dev/null 2>&1 && grep -q '^understudy:' /etc/group; then return 0; fi
  has useradd || has adduser ||
    fail "neither useradd nor adduser is here: make a system user understudy with a group of that name, then run this again"
  if ! grep -q '^understudy:' /etc/group; then
    if has groupadd; then groupadd --system understudy; else addgroup -S understudy; fi
  fi
  ! id understudy >/dev/null 2>&1 || return 0
  if has useradd; then
    useradd --system --gid understudy --no-create-home --home-dir /var/lib/understudy --shell /bin/false understudy
  else
    adduser -S -D -H -h /var/lib/understudy -s /bin/false -G understudy understudy
  fi
  for group in gpio i2c spi dialout video plugdev; do
    grep -q "^$group:" /etc/group || continue
    if has usermod; then usermod -aG "$group" understudy; else addgroup understudy "$group"; fi
  done
}

# A user who was taken out and made again may have another number than what is there.
make_folders() {
  mkdir -p /etc/understudy
  config=/etc/understudy/understudy.toml
  if [ ! -e $config ]; then
    cp "$new/share/doc/understudy/understudy.toml" $config
    chmod 0640 $config
    chown root:understudy $config
  fi
  [ "$(stat -c %G $config)" != UNKNOWN ] || chgrp understudy $config
  if [ ! -d /var/lib/understudy ]; then
    mkdir -m 0750 /var/lib/understudy
    chown understudy:understudy /var/lib/understudy
  fi
  [ "$(stat -L -c %U /var/lib/understudy)" != UNKNOWN ] || chown -R understudy:understudy /var/lib/understudy/
}

install_archive() {
  mkdir -p "$work/new" /usr/local/bin
  tar -xzf "$work/$file" -C "$work/new"
  new=$work/new/${file%.tar.gz}
  # Tried where it is to run: a folder for what is passing may let nothing run. And a program
  # that runs is replaced, not written over.
  cp "$new/bin/understudy" /usr/local/bin/understudy.new
  rm "$new/bin/understudy"
  if ! comes=$(/usr/local/bin/understudy.new --version); then
    rm /usr/local/bin/understudy.new
    fail "$file does not run here ($(uname -m)), the line above says why: nothing was installed"
  fi
  if [ -x /usr/local/bin/understudy ]; then
    tell_older "$(/usr/local/bin/understudy --version | cut -d ' ' -f 2)" "$(echo "$comes" | cut -d ' ' -f 2)"
  fi
  make_user
  make_folders
  mv /usr/local/bin/understudy.new /usr/local/bin/understudy
  # Where a folder is a link to another, its files go there.
  (cd "$new" && find . -type f) | while read -r path; do
    mkdir -p "/usr/local/$(dirname "$path")"
    cp "$new/$path" "/usr/local/$path"
  done
  start_archive
}

# Every agent that runs, in its turn.
start_anew() { # program
  systemctl daemon-reload
  running=$(systemctl list-units --plain --no-legend --state=active,activating,reloading \
    understudy.service 'understudy@*.service' | awk '{ print $1 }')
  for unit in $running; do
    name=${unit#understudy}
    name=${name%.service}
    code=0
    # What would not start is better not started anew: as the old one the agent goes on.
    if ! "$1" ${name:+--dir "/var/lib/understudy$name"} config check >/dev/null; then
      code=75
    else
      "$1" ${name:+--dir "/var/lib/understudy$name"} turn --wait 5m || code=$?
    fi
    if [ $code -eq 75 ] && systemctl --quiet is-active "$unit"; then
      say "$unit runs on as it was before this upgrade, until systemctl restart $unit"
    else
      systemctl restart "$unit" || say "$unit does not start: see why with journalctl -u $unit"
    fi
  done
}

start_archive() {
  if [ ! -d /run/systemd/system ]; then
    say "there is no systemd here: see to it that /usr/local/bin/understudy run is started with"
    say "the machine, by the user understudy, who needs a folder /run/understudy of its own."
    return
  fi
  start_anew /usr/local/bin/understudy
  if ! $was_there; then
    systemctl enable --now understudy.service
  elif systemctl --quiet is-enabled understudy.service 2>/dev/null; then
    systemctl start understudy.service
  else
    say "understudy.service is not enabled, and stays so: systemctl enable --now understudy"
  fi
}

if [ -z "$from" ]; then
  from=$(dirname "$0")
  [ -e "$from/SHA256SUMS" ] || fail "where are the packages? sh install.sh --from DIR|URL"
fi
from=${from%/}
choose
[ "$(id -u)" -eq 0 ] || fail "this needs root: sudo sh install.sh"
has sha256sum || fail "sha256sum is missing: what is installed could not be checked"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Others read what root installs: apt does as a user of its own.
chmod 0755 "$work"
fetch_chosen
say "$file"
was_there=false
if has understudy || [ -e /usr/local/bin/understudy ]; then was_there=true; fi
case "$kind" in
  deb) install_deb ;;
  *) install_archive ;;
esac
if [ "$kind" != deb ] && ! $was_there; then
  say "next: sudo understudy init on the first board, sudo understudy join TOKEN on every other"
fi
