#!/bin/sh
# Greets every ten seconds, or once.
while echo "$(date -u +%H:%M:%S) ${GREETING:-hello}"; do
    [ "$1" = --once ] && exit 0
    sleep 10
done
