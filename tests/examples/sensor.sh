#!/bin/sh
# A sensor process in shell: the load of this board, once a second, for ever.
#
#   sensor.sh | understudy ingest
#
# COUNT=N ends it after N readings, PAUSE=S waits S seconds between two.
set -u
sent=0
while [ "$sent" -ne "${COUNT:--1}" ]; do
  read -r load _ </proc/loadavg
  printf 'board/load %s\n' "$load"
  sent=$((sent + 1))
  sleep "${PAUSE:-1}"
done
