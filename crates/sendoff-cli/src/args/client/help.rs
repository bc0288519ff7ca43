//! What follows the options in help texts.

pub(super) const SUBMIT: &str = "\
Examples:
  sendoff submit http http://127.0.0.1:8333/ --data-json '{\"a\": 1}'
  sendoff submit process --in 3h -- touch /tmp/x
  sendoff submit simulated 250ms -q | sendoff wait -";

pub(super) const SUBMIT_HTTP: &str = "\
Examples:
  sendoff submit http http://127.0.0.1:8333/ --data-json '{\"a\": 1}'
  sendoff submit http https://example.com/hook --in 3h --label customer=7
  sendoff submit http https://example.com/hook --header-secret 'Authorization=Bearer env:TOKEN'
  sendoff submit http http://127.0.0.1:8333/ --wait=10s      exit 0 if it started within 10 s

The target gets the job's guid as Idempotency-Key, the same for each attempt.";

pub(super) const SUBMIT_PROCESS: &str = "\
Examples:
  sendoff submit process -- touch /tmp/x
  sendoff submit process --at 2027-01-01T09:00[Europe/Paris] --stdout /tmp/report.log -- report --year
  sendoff submit process --cwd . --env MODE=fast -- make -j4

The daemon starts it with an environment of its own, to which --env adds. Arguments are visible to
other users of the machine while it runs; pass secrets in --env.";

pub(super) const SUBMIT_SIMULATED: &str = "\
Examples:
  sendoff submit simulated 250ms
  sendoff submit simulated 1ms --in 90s -Q slow --wait";

pub(super) const SUBMIT_JOB: &str = "\
Examples:
  sendoff submit job job.json
  echo '{\"start\": {\"simulated\": {\"delay\": \"1ms\"}}}' | sendoff submit job - --in 5m

Options replace what the file says.";

pub(super) const BATCH: &str = "\
Examples:
  sendoff batch jobs.ndjson                     accept what is good, report each bad line
  sendoff batch --atomic jobs.ndjson            all or none
  generate | sendoff batch -q - | sendoff wait -

With --json each line of the input gets a line, and the last line is the sum.

Exit codes:
  0    every job is accepted
  1    some line was refused; the others are accepted
  2    wrong usage or bad input: nothing was accepted
  4    the daemon cannot be reached or refuses you";

pub(super) const LIST: &str = "\
Examples:
  sendoff list                                  the newest 50
  sendoff list --state failed --all -q          the guids of all that failed
  sendoff list -Q mail --from 2027-01-01T00:00:00Z --oldest --json";

pub(super) const SHOW: &str = "\
Examples:
  sendoff show 018f2b1e-0000-7000-8000-00000000000a
  sendoff show 00000a                           by the end of the guid
  sendoff list --state unknown -q | sendoff show --json -";

pub(super) const WAIT: &str = "\
Examples:
  sendoff submit http http://127.0.0.1:8333/ -q | sendoff wait -
  sendoff wait --timeout 30s 00000a

Exit codes:
  0    every job started
  1    some job will not start, or nobody knows whether it did
  3    there is no such job
  4    the daemon cannot be reached or refuses you
  124  the time ran out";

pub(super) const CANCEL: &str = "\
Examples:
  sendoff cancel 00000a
  sendoff cancel --label customer=7             everything of a customer that has not started
  sendoff list -Q mail --state pending -q --all | sendoff cancel -

Exit codes:
  0    each is cancelled
  1    for some it was too late
  3    there is no such job
  4    the daemon cannot be reached or refuses you";

pub(super) const RESCHEDULE: &str = "\
Examples:
  sendoff reschedule 00000a --in 3h
  sendoff reschedule 00000a --at 2027-01-01T09:00:00Z";

pub(super) const START_NOW: &str = "\
Examples:
  sendoff start-now 00000a
  sendoff list --label batch=7 --state pending -q --all | sendoff start-now -";

pub(super) const RESOLVE: &str = "\
Examples:
  sendoff resolve 00000a started                it did start, as its target says
  sendoff resolve 00000a pending                start it again";

pub(super) const STATS: &str = "\
Examples:
  sendoff stats
  sendoff stats --json | jq .counts.pending";

pub(super) const NODES: &str = "\
Examples:
  sendoff nodes
  sendoff nodes --json | jq 'select(.state != \"alive\")'";

pub(super) const WATCH: &str = "\
Examples:
  sendoff watch
  sendoff watch -Q mail --state failed --json
  sendoff watch | grep failed";

pub(super) const QUEUE: &str = "\
Examples:
  sendoff queue list
  sendoff queue set mail --max-in-flight 8 --rate 100/1s
  sendoff queue pause mail";

pub(super) const QUEUE_LIST: &str = "\
Examples:
  sendoff queue list
  sendoff queue list -q";

pub(super) const QUEUE_SHOW: &str = "\
Examples:
  sendoff queue show mail
  sendoff queue show mail --json";

pub(super) const QUEUE_SET: &str = "\
Examples:
  sendoff queue set mail --max-in-flight 8
  sendoff queue set mail --rate 100/1s:20       100 a second, up to 20 at once
  sendoff queue set mail --rate none";

pub(super) const QUEUE_PAUSE: &str = "\
Examples:
  sendoff queue pause mail";

pub(super) const QUEUE_RESUME: &str = "\
Examples:
  sendoff queue resume mail";

pub(super) const QUEUE_PURGE: &str = "\
Examples:
  sendoff queue purge mail";

pub(super) const QUEUE_FORGET: &str = "\
Examples:
  sendoff queue forget mail";
