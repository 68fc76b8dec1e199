/* Sessions over all processes of one token, as an HSM counts those of all its clients: each process has a row in the state
   file, and one that died has no sessions any more. Invariant: rows are read and written under the lock of the state file. */
#define _GNU_SOURCE
#include "shim.h"
#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

static int is_alive(uint32_t pid) { return kill((pid_t)pid, 0) == 0 || errno == EPERM; }

/* The row of this process. */
static client_t *own(void) {
  uint32_t pid = (uint32_t)getpid();
  client_t *free_row = 0;
  for (int at = 0; at < CLIENTS; at++) {
    client_t *row = &state->clients[at];
    if (row->pid == pid) return row;
    if (!free_row && (!row->pid || !is_alive(row->pid))) free_row = row;
  }
  if (free_row) *free_row = (client_t){.pid = pid};
  return free_row;
}
static uint32_t all_sessions(void) {
  uint32_t sum = 0;
  for (int at = 0; at < CLIENTS; at++)
    if (state->clients[at].pid && is_alive(state->clients[at].pid)) sum += state->clients[at].sessions;
  return sum;
}

/* One session more, if all clients together may have it. */
int client_opens(ulong_t most) {
  flock(state_file, LOCK_EX);
  client_t *row = own();
  uint32_t sum = all_sessions();
  int may = row && (!most || sum < most);
  if (may) row->sessions++;
  if (may && sum + 1 > state->most_sessions) state->most_sessions = sum + 1;
  flock(state_file, LOCK_UN);
  return may;
}
void client_has(int sessions) {
  flock(state_file, LOCK_EX);
  client_t *row = own();
  if (row) row->sessions = (uint32_t)sessions;
  flock(state_file, LOCK_UN);
}
