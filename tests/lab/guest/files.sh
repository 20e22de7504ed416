#!/bin/bash
# Prints how many files a process had open at most, once it has ended: `files.sh PID`.
most=0
while [ -e "/proc/$1/stat" ]; do
    open=("/proc/$1/fd/"*)
    if [ ${#open[@]} -gt $most ]; then most=${#open[@]}; fi
    sleep 0.2
done
echo "$most"
