/* A PKCS#11 module that passes everything on to a real one, and on the way imposes a vendor's rules (rules.c) and does
   what breaks (below), as a control file beside it says (control.c, README.md). Invariant: no lock is held during the
   real call or a fault, so that sessions run side by side as they would without it.

   Every function of PKCS #11 takes at most eight arguments, all of the size of a register or smaller, and none is
   variadic: one stub of eight words passes any of them on, on the 64-bit ABIs that Linux has. */
#define _GNU_SOURCE
#include "shim.h"
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct { byte_t major, minor; void *functions[FUNCTION_COUNT]; } list_t;
typedef struct { char *name; void *list; ulong_t flags; } interface_t;
enum { SESSIONS = 512 };
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static function_t real[FUNCTION_COUNT];
static void *library;
static list_t offered, offered3;
static interface_t interface3 = {"PKCS 11", &offered3, 0};
static session_t sessions[SESSIONS];
static ulong_t client_epoch, login_epoch;
static int opening; /* calls of C_OpenSession that are under way */
static int logged_in, idled;
static ulong_t called_ms;

ulong_t call_real(int f, const ulong_t *a) {
  return real[f] ? real[f](a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]) : CKR_FUNCTION_NOT_SUPPORTED;
}

session_t *session_of(ulong_t handle) {
  for (int at = 0; at < SESSIONS; at++) if (sessions[at].handle == handle && handle) return &sessions[at];
  return 0;
}
static int is_lost(const session_t *session) { return session->lost || session->epoch < control.session_epoch; }
int session_count(void) {
  int count = 0;
  for (int at = 0; at < SESSIONS; at++) count += sessions[at].handle && !is_lost(&sessions[at]);
  return count;
}
static void session_opened(ulong_t handle) {
  for (int at = 0; at < SESSIONS; at++) if (!sessions[at].handle) {
    sessions[at] = (session_t){.handle = handle, .epoch = control.session_epoch};
    return;
  }
}

static int takes_session(int f) { return f > F_OpenSession && f != F_CloseAllSessions && f != F_WaitForSlotEvent && f < F_GetInterfaceList; }
static int needs_login(int f) {
  return f >= F_CreateObject && f != F_FindObjectsInit && f != F_FindObjects && f != F_FindObjectsFinal && f != F_GenerateRandom;
}
static int is_logged_out(void) { return logged_in && login_epoch < control.session_epoch; }

/* What a module answers whose client, token, session or login is gone; 0 where all is there. */
static ulong_t gone(int f, call_t *call) {
  if (f == F_Initialize || f == F_Finalize || f == F_GetFunctionList) return 0;
  if (client_epoch < control.client_epoch || idled) return control.client_ckr;
  if (control.absent) {
    if (f == F_GetSlotList && (byte_t)call->a[0]) { *(ulong_t *)call->a[2] = 0; return ~0ul; }
    if (f > F_GetSlotInfo && f <= F_OpenSession) return CKR_TOKEN_NOT_PRESENT;
    if (f > F_OpenSession) return control.absent;
  }
  session_t *session = takes_session(f) || f >= F_EncapsulateKey ? session_of(call->a[0]) : 0;
  if (session && is_lost(session)) {
    if (f == F_CloseSession) { call_real(f, call->a); session->handle = 0; }
    return control.lost_ckr;
  }
  if (is_logged_out()) {
    if (f == F_FindObjects) { *(ulong_t *)call->a[3] = 0; return ~0ul; } /* private objects are not seen */
    if (needs_login(f)) return CKR_USER_NOT_LOGGED_IN;
  }
  return 0;
}

static ulong_t after(int f, call_t *call, ulong_t rv) {
  if (f == F_Login && (rv == 0 || rv == CKR_USER_ALREADY_LOGGED_IN)) { logged_in = 1; login_epoch = control.session_epoch; }
  if (f == F_Logout && rv == 0) logged_in = 0;
  if (f == F_OpenSession && rv == 0) session_opened(*(ulong_t *)call->a[4]);
  int counts = f == F_OpenSession || f == F_CloseSession || f == F_Finalize || f == F_CloseAllSessions;
  if (f == F_CloseSession && session_of(call->a[0])) session_of(call->a[0])->handle = 0;
  if (f == F_Finalize || f == F_CloseAllSessions) { memset(sessions, 0, sizeof sessions); logged_in = 0; }
  if (counts) client_has(session_count() + opening);
  if (f == F_Initialize && rv == 0) { client_epoch = control.client_epoch; idled = 0; }
  return rules_after(f, call, rv);
}

/* --- faults --- */
static int takes_data(int f) {
  return f == F_Encrypt || f == F_Decrypt || f == F_Sign || f == F_Verify || f == F_Digest || f == F_SignRecover || f == F_VerifyRecover;
}
static int matches(const fault_t *fault, int f, const call_t *call) {
  if (fault->function != f && fault->function != ANY) return 0;
  session_t *session = f > F_OpenSession ? session_of(call->a[0]) : 0;
  if (fault->stored && !(session && session->stored)) return 0;
  if (!fault->prefix_length) return 1;
  return takes_data(f) && call->a[2] >= (ulong_t)fault->prefix_length &&
         !memcmp((void *)call->a[1], fault->prefix, (size_t)fault->prefix_length);
}
/* The first fault whose turn it is. */
static fault_t turn(int f, const call_t *call) {
  for (int at = 0; at < control.fault_count; at++) {
    const fault_t *fault = &control.faults[at];
    if (!matches(fault, f, call)) continue;
    uint32_t before = __atomic_fetch_add(&state->matched[fault->id % FAULTS], 1, __ATOMIC_ACQ_REL);
    if (before < fault->skip || (fault->times && before - fault->skip >= fault->times)) continue;
    __atomic_add_fetch(&state->fired[fault->id % FAULTS], 1, __ATOMIC_ACQ_REL);
    return *fault;
  }
  return (fault_t){.action = NOTHING};
}
static void pause_ms(ulong_t ms) {
  struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  while (nanosleep(&time, &time)) {}
}
/* Until the test withdraws the fault, which may be never. */
static void hang(int id) {
  for (int there = 1; there;) {
    pause_ms(1);
    pthread_mutex_lock(&lock);
    control_refresh();
    there = control_fault(id) != 0;
    pthread_mutex_unlock(&lock);
  }
}
static void corrupt(int f, call_t *call) {
  if (f == F_GenerateRandom) memset((void *)call->a[1], 0, call->a[2]);
  int out = f == F_WrapKey ? 4 : takes_data(f) && f != F_Verify ? 3 : 0;
  ulong_t length = out && call->a[out] ? *(ulong_t *)call->a[out + 1] : 0;
  if (length) ((byte_t *)call->a[out])[length / 2] ^= 1;
}

static ulong_t run(int f, call_t *call, const fault_t *fault) {
  switch (fault->action) {
    case RETURN:
      if (takes_data(f) && fault->value != CKR_BUFFER_TOO_SMALL) call_real(f, call->a); /* a failed operation is over */
      return fault->value;
    case RETURN_AFTER:
      call_real(f, call->a);
      return fault->value;
    case DELAY: pause_ms(fault->value); break;
    case HANG: hang(fault->id); break;
    case SEGV: signal(SIGSEGV, SIG_DFL); raise(SIGSEGV); break;
    case ABORT: abort();
    default: break;
  }
  ulong_t rv = call_real(f, call->a);
  if (rv == 0 && fault->action == CORRUPT) corrupt(f, call);
  return rv;
}

/* A client that was silent for too long is forgotten. */
static void note_time(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  ulong_t now = (ulong_t)time.tv_sec * 1000 + (ulong_t)time.tv_nsec / 1000000;
  if (control.idle_ms && called_ms && now - called_ms > control.idle_ms) idled = 1;
  called_ms = now;
}

static ulong_t through(int f, call_t *call) {
  pthread_mutex_lock(&lock);
  control_refresh();
  note_time();
  __atomic_add_fetch(&state->calls[f], 1, __ATOMIC_ACQ_REL);
  ulong_t rv = gone(f, call);
  if (!rv) rv = rules_before(f, call);
  if (!rv && f == F_OpenSession) {
    if (client_opens(control.all_sessions)) opening++;
    else rv = control.all_sessions_ckr;
  }
  int opens = !rv && f == F_OpenSession;
  fault_t fault = rv ? (fault_t){.action = NOTHING} : turn(f, call);
  if (fault.action == LOSE_SESSION && session_of(call->a[0])) { session_of(call->a[0])->lost = 1; rv = control.lost_ckr; }
  int again = f == F_Login && is_logged_out(), stale = f == F_Initialize && (client_epoch < control.client_epoch || idled);
  pthread_mutex_unlock(&lock);
  if (rv) return rv == ~0ul ? 0 : rv;
  ulong_t none[8] = {0};
  if (again) call_real(F_Logout, call->a); /* the real token knows nothing of the loss */
  if (stale) call_real(F_Finalize, none);
  rv = run(f, call, &fault);
  pthread_mutex_lock(&lock);
  opening -= opens;
  rv = after(f, call, rv);
  pthread_mutex_unlock(&lock);
  return rv;
}

#define STUB(name) \
  static ulong_t stub_##name(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) { \
    call_t call = {.a = {a, b, c, d, e, f, g, h}}; \
    return through(F_##name, &call); \
  }
FUNCTIONS(STUB)
static void *const stubs[] = {
#define POINTER(name) (void *)stub_##name,
  FUNCTIONS(POINTER)
};

static int start(void) {
  static int started;
  pthread_mutex_lock(&lock);
  if (!started && state_open()) {
    control_refresh();
    library = dlopen(control.real, RTLD_NOW | RTLD_LOCAL);
    if (library) started = 1;
    else fprintf(stderr, "shim: %s\n", dlerror());
  }
  pthread_mutex_unlock(&lock);
  return started;
}
static void offer(list_t *list, const list_t *from, int count) {
  list->major = from->major;
  list->minor = from->minor;
  for (int at = 0; at < count; at++) {
    real[at] = (function_t)from->functions[at];
    list->functions[at] = from->functions[at] ? stubs[at] : 0;
  }
}

#define EXPORTED __attribute__((visibility("default")))
EXPORTED ulong_t C_GetInterface(byte_t *name, byte_t *wanted, interface_t **found, ulong_t flags) {
  if (!start()) return 5;
  ulong_t (*get)(byte_t *, byte_t *, interface_t **, ulong_t) = (void *)dlsym(library, "C_GetInterface");
  if (!get) return CKR_FUNCTION_NOT_SUPPORTED;
  ulong_t rv = get(name, wanted, found, flags);
  if (rv || !*found) return rv;
  const list_t *list = (*found)->list;
  int version = list->major * 100 + list->minor;
  offer(&offered3, list, version >= 302 ? FUNCTION_COUNT : version >= 300 ? FUNCTIONS_3_0 : FUNCTIONS_2_40);
  *found = &interface3;
  return 0;
}
EXPORTED ulong_t C_GetFunctionList(list_t **list) {
  if (!start()) return 5;
  list_t *from;
  ulong_t (*get)(list_t **) = (void *)dlsym(library, "C_GetFunctionList");
  if (!get || get(&from)) return 5;
  offer(&offered, from, FUNCTIONS_2_40);
  offered.functions[F_GetFunctionList] = (void *)C_GetFunctionList;
  *list = &offered;
  return 0;
}
