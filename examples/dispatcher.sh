#!/usr/bin/env bash
# Delegates a queue's tasks to a job server with ccl-delegate, beside a daemon or without one.
#
#   examples/dispatcher.sh QUEUE        one pass; from cron, or:  while sleep 2; do examples/dispatcher.sh QUEUE; done
#
# QUEUE is <project>/.agent-queue, or projects/<project> in the mount. A pass takes up each task that is for a provider by
# the rules (decide), claims it with a marker, hands it in (submit), and files what has ended into done/ or failed/.
# Everything else waits in inbox/: for the daemon, or for the next pass. The environment is ccl-delegate's.
set -eu

queue=${1:?usage: dispatcher.sh QUEUE}
delegate=${CCL_DELEGATE:-ccl-delegate}
cd "$queue"
mkdir -p inbox 'done' failed

# The value of a key in a marker, which is one line of JSON.
value() { # value KEY MARKER
    sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$2"
}

# Puts standard input in the place of a file, whole or not at all.
replace() { # replace FILE
    local new="${1%/*}/.${1##*/}.tmp"
    cat >"$new"
    sync "$new"
    mv -f "$new" "$1"
}

# Claims the task and leaves its idempotency key in the marker, before anything is sent: who finds it after a crash sends
# the same key, and it is the same job.
claim() { # claim TASK WORD
    local marker="inbox/$1.md.delegated" key
    key=$(cat /proc/sys/kernel/random/uuid)
    printf '{"provider":"%s","key":"%s","by":"dispatcher.sh"}\n' "$2" "$key" | replace "inbox/.$1.claim"
    # A link is made whole, and exactly one is.
    if ! ln "inbox/.$1.claim" "$marker" 2>/dev/null; then
        rm -f "inbox/.$1.claim"
        return 1
    fi
    rm -f "inbox/.$1.claim"
    sync inbox
    # The daemon claims with another marker and looks for this one: when both are there, both step back.
    if [ -e "inbox/$1.md.working" ] || ! [ -e "inbox/$1.md" ]; then
        rm -f "$marker"
        return 1
    fi
}

# Hands the task in and adds the job's id to the marker. One that nobody takes is local.
submit() { # submit TASK
    local marker="inbox/$1.md.delegated" key job
    key=$(value key "$marker")
    if job=$("$delegate" submit "inbox/$1.md" --provider "$(value provider "$marker")" --key "$key"); then
        printf '%s,"key":"%s","by":"dispatcher.sh"}\n' "${job%\}}" "$key" | replace "$marker"
    else
        rm -f "$marker"
    fi
}

# Files the end of the task's job, where there is one: the result first, then the task goes, then its marker.
collect() { # collect TASK
    local task="inbox/$1.md" marker="inbox/$1.md.delegated" job provider output status='done' dir='done' error="" code=0
    job=$(value job_id "$marker")
    provider=$(value provider "$marker")
    output=$("$delegate" result "$job" --provider "$provider" 2>"inbox/.$1.error") || code=$?
    error=$(tr -d '\042\134' <"inbox/.$1.error")
    rm -f "inbox/.$1.error"
    case $code in
    0) ;;
    1) status=failed dir=failed ;;
    *) return 0 ;; # not yet, or nobody can tell now
    esac
    {
        cat "$task"
        # The mark stands at a line's beginning.
        [ -z "$(tail -c 1 "$task")" ] || echo
        printf '<!-- claude-failover:result -->\n\n'
        [ -z "$output" ] || printf '%s\n\n' "$output"
        printf '```yaml\nstatus: %s\nprovider: %s\njob: "%s"\nfinished: %s\n' \
            "$status" "$provider" "$job" "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
        [ "$status" = 'done' ] || printf 'error: "%s"\n' "$error"
        printf '```\n'
    } | replace "$dir/$1.md"
    rm -f "$task"
    rm -f "$marker"
}

for task in inbox/*.md; do
    [ -f "$task" ] || continue
    id=${task#inbox/}
    id=${id%.md}
    marker="$task.delegated"
    if ! [ -e "$marker" ]; then
        [ -e "$task.working" ] && continue
        # A file that is not whole yet, or is no task, is none of ours.
        word=$("$delegate" decide "$task" 2>/dev/null) || continue
        [ "$word" = local ] && continue
        claim "$id" "$word" || continue
    fi
    # Others' markers are theirs.
    [ "$(value by "$marker")" = dispatcher.sh ] || continue
    [ -n "$(value job_id "$marker")" ] || submit "$id"
    if [ -e "$marker" ]; then
        collect "$id"
    fi
done

# What is at the job server, for whoever watches the queue.
{
    state=idle
    tasks=""
    for marker in inbox/*.md.delegated; do
        [ -f "$marker" ] || continue
        [ "$(value by "$marker")" = dispatcher.sh ] || continue
        state=delegated_to_secutools
        id=${marker#inbox/}
        tasks="$tasks${tasks:+,}\"${id%.md.delegated}\":$(cat "$marker")"
    done
    printf '{"state":"%s","updated":"%s","tasks":{%s}}\n' "$state" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$tasks"
} | replace ./status.json
