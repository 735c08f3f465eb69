# fail WORDS...: say what is wrong, and end as wrong usage, which no scheduler retries.
fail() {
  printf 'jobctl: %s\n' "$*" >&2
  exit "$EXIT_USAGE"
}
