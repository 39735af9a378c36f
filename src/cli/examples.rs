//! The examples under each command's help: every flag stands in one, and each is to be pasted as it is.

pub const MAILONCE: &str = "\
Examples:
  mailonce demo                                # see it work, on this machine
  mailonce --config rehearsal.toml detect --dry-run --now 2026-03-01T09:00:00Z
  mailonce detect --verbose --log-format json --wait 30s
  mailonce status --json";

pub const DEMO: &str = "\
Examples:
  mailonce demo
  mailonce demo /tmp/shop";

pub const INIT: &str = "\
Examples:
  mailonce init --rehearsal                    # a ledger that writes to no one
  mailonce init --shop magento2
  mailonce init --ledger /var/lib/mailonce/mailonce.db";

pub const DETECT: &str = "\
Examples:
  mailonce detect --dry-run
  mailonce detect --time-budget 50s            # as in the crontab
  mailonce detect --retry-now
  mailonce detect --test-to me@shop.example
  mailonce detect --test-to me@shop.example --step second
  mailonce detect --allow 5000
  mailonce detect --accept-clock";

pub const RUN_CAMPAIGNS: &str = "\
Examples:
  mailonce run-campaigns --dry-run
  mailonce run-campaigns --time-budget 50s     # as in the crontab
  mailonce run-campaigns --retry-now --campaign spring
  mailonce run-campaigns --campaign spring --accept-audience
  mailonce run-campaigns --accept-clock";

pub const CAMPAIGN: &str = "\
Examples:
  mailonce campaign list
  mailonce campaign test spring --to me@shop.example";

pub const CAMPAIGN_LIST: &str = "\
Examples:
  mailonce campaign list";

pub const CAMPAIGN_SHOW: &str = "\
Examples:
  mailonce campaign show spring
  mailonce campaign show spring --occurrence 2026-03-02T08:00:00Z --csv";

pub const CAMPAIGN_ADD: &str = "\
Examples:
  mailonce campaign add spring --subject \"Spring is here\" \\
      --template spring.html --audience audience.csv --at \"2026-03-20 09:00\"
  mailonce campaign add news --subject \"The news\" \\
      --template news.html --audience audience.csv \\
      --every week --on monday --time 09:00 --timezone Europe/Berlin
  mailonce campaign add vip --subject \"For you\" --template vip.html \\
      --sql \"SELECT email, name FROM vip\" --cron \"0 9 * * MON\"";

pub const CAMPAIGN_TEST: &str = "\
Examples:
  mailonce campaign test spring --to me@shop.example";

pub const CAMPAIGN_PAUSE: &str = "\
Examples:
  mailonce campaign pause spring";

pub const CAMPAIGN_RESUME: &str = "\
Examples:
  mailonce campaign resume spring";

pub const CAMPAIGN_CANCEL: &str = "\
Examples:
  mailonce campaign cancel spring";

pub const CAMPAIGN_REMOVE: &str = "\
Examples:
  mailonce campaign remove spring";

pub const CAMPAIGN_RETRY: &str = "\
Examples:
  mailonce campaign retry spring --state refused
  mailonce campaign retry spring --state expired --state cancelled \\
      --occurrence 2026-03-02T08:00:00Z
  mailonce campaign retry spring --state refused --template mended.html";

pub const CLEANUP_DUPLICATES: &str = "\
Examples:
  mailonce cleanup-duplicates --dry-run
  mailonce cleanup-duplicates --window 48h --timezone Europe/Berlin
  mailonce cleanup-duplicates --restore";

pub const ADD_INDEX: &str = "\
Examples:
  mailonce add-index --dry-run
  mailonce add-index --rehearsal --window 48h --timezone Europe/Berlin
  mailonce add-index --set-aside";

pub const STATUS: &str = "\
Examples:
  mailonce status
  mailonce status --json";

pub const METRICS: &str = "\
Examples:
  mailonce metrics";

pub const LOG: &str = "\
Examples:
  mailonce log --state refused --since 24h
  mailonce log --address ada@example.com --limit 10
  mailonce log --user 4711
  mailonce log --step second --since 7d
  mailonce log --cart c1
  mailonce log --since 30d --jsonl             # an object a line, of all
  mailonce log 0237dc7e";

pub const RESOLVE: &str = "\
Examples:
  mailonce resolve                             # lists what waits for you
  mailonce resolve --mail-log /var/log/mail.log --timezone Europe/Berlin
  mailonce resolve 0237dc7e --sent --reason \"it is in the shopper's inbox\"
  mailonce resolve --all --refused --reason \"the relay was reset\"
  mailonce resolve --state refused --since 2h --resend \\
      --reason \"the template is mended\"
  mailonce resolve --accept missed:spring
  mailonce resolve --restored --hold-back";

pub const SUPPRESS: &str = "\
Examples:
  mailonce suppress add ada@example.com
  mailonce suppress list";

pub const FORGET: &str = "\
Examples:
  mailonce forget ada@example.com";

pub const PRUNE: &str = "\
Examples:
  mailonce prune --older-than 2y --dry-run
  mailonce prune --older-than 2y";

pub const SUPPRESS_ADD: &str = "\
Examples:
  mailonce suppress add ada@example.com bob@example.com \\
      --reason \"asked by telephone\"";

pub const SUPPRESS_REMOVE: &str = "\
Examples:
  mailonce suppress remove ada@example.com
  mailonce suppress remove ada@example.com --reason \"asked for it in the shop\"
  mailonce suppress remove --bounced-since 2h";

pub const SUPPRESS_LIST: &str = "\
Examples:
  mailonce suppress list";

pub const SOURCE: &str = "\
Examples:
  mailonce source carts
  mailonce source queries";

pub const SOURCE_QUERIES: &str = "\
Examples:
  mailonce source queries";

pub const SOURCE_CARTS: &str = "\
Examples:
  mailonce source carts --limit 20
  mailonce source carts c1";

pub const IMPORT: &str = "\
Examples:
  mailonce import suppressions opt-outs.csv
  mailonce import log old_log.csv";

pub const IMPORT_SUPPRESSIONS: &str = "\
Examples:
  mailonce import suppressions opt-outs.csv --reason \"from the old shop\"";

pub const IMPORT_LOG: &str = "\
Examples:
  mailonce import log old_log.csv --timezone Europe/Berlin
  mailonce import log old_log.csv --dry-run
  mailonce import log old.db --table cart_abandonment_log --strict
  mailonce import log --source --lenient";

pub const IMPORT_SCHEDULES: &str = "\
Examples:
  mailonce import schedules old.json --timezone Europe/Berlin";

pub const AUDIT: &str = "\
Examples:
  mailonce audit
  mailonce audit --mail-log /var/log/mail.log --timezone Europe/Berlin";

pub const DOCTOR: &str = "\
Examples:
  mailonce doctor
  mailonce doctor --expect-every 1h
  mailonce doctor --received arrived.eml       # a mail as it came";

pub const PREVIEW: &str = "\
Examples:
  mailonce preview                             # an example cart
  mailonce preview c1 --step second --out shown
  mailonce preview --locale de
  mailonce preview campaign spring";

pub const COUPON: &str = "\
Examples:
  mailonce coupon import comeback codes.csv
  mailonce coupon list";

pub const BOUNCES: &str = "\
Examples:
  mailonce bounces                              # [bounces] maildir, from cron
  mailonce bounces --maildir /var/mail/bounce/Maildir
  mailonce bounces --mbox bounces.mbox
  mailonce bounces -                            # one mail, from a pipe
  mailonce bounces --again                      # after a restored backup
  mailonce bounces --apply";

pub const RATES: &str = "\
Examples:
  mailonce rates
  mailonce rates --since 7d";

pub const UNSUBSCRIBE: &str = "\
Examples:
  mailonce unsubscribe 1k0f3c…9a.5d2e…
  mailonce unsubscribe -                        # tokens from stdin, one a line";

pub const UNSUBSCRIBE_ROTATE: &str = "\
Examples:
  mailonce unsubscribe rotate";

pub const UNSUBSCRIBE_SOURCE: &str = "\
Examples:
  mailonce unsubscribe source
  mailonce unsubscribe source --allow 5000";

pub const COUPON_IMPORT: &str = "\
Examples:
  mailonce coupon import comeback codes.csv";

pub const COUPON_LIST: &str = "\
Examples:
  mailonce coupon list";

pub const COUPON_RELEASE: &str = "\
Examples:
  mailonce coupon release comeback";

pub const EXPLAIN: &str = "\
Examples:
  mailonce explain ada@example.com
  mailonce explain c9 --json
  mailonce explain 12345678 --cart             # an id as a message's could be
  mailonce explain ada@example.com --address";
pub const REPORT: &str = "\
Examples:
  mailonce report                               # as text, of the last 90 days
  mailonce report --html /var/lib/mailonce/report.html
  mailonce report --html report.html --days 30 --names
  mailonce report --since 2026-03-01 --until 2026-03-31T23:59:59Z --text
  mailonce report --campaign spring --html -    # to stdout";

pub const RECOVERED: &str = "\
Examples:
  mailonce recovered
  mailonce recovered --since 90d --csv";

pub const MAN: &str = "\
Examples:
  mailonce man                                 # | man -l -
  mailonce man --into /usr/local/share/man/man1";

pub const COMPLETIONS: &str = "\
Examples:
  mailonce completions bash                    # > a file: docs/install.md
  mailonce completions zsh
  mailonce completions fish";
