# fail WORDS...: print an error, and end with the exit code for wrong usage. No scheduler retries such a job.
fail() {
  printf 'jobctl: %s\n' "$*" >&2
  exit "$EXIT_USAGE"
}
