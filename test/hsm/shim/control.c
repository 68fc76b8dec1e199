/* The control file, parsed whole each time that it is a new one, and the state file, mapped for good. Both lie beside the
   shim's own .so, because the agent lets no variable of ours through to the token process. README.md has the words. */
#define _GNU_SOURCE
#include "shim.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

control_t control;
state_t *state;
int state_file;
static uint32_t seen;
static char folder[512];
static const char *const names[] = {
#define NAME(name) "C_" #name,
  FUNCTIONS(NAME)
#undef NAME
};

int function_named(const char *name) {
  for (int at = 0; at < FUNCTION_COUNT; at++) if (!strcmp(names[at], name)) return at;
  if (!strcmp(name, "*")) return ANY;
  fprintf(stderr, "shim: no function is called %s\n", name);
  abort(); /* a test that says nonsense must not pass */
}

static void path_of(const char *name, char *into, size_t size) {
  if (!folder[0]) {
    Dl_info self;
    if (dladdr((void *)path_of, &self)) snprintf(folder, sizeof folder, "%s", self.dli_fname);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
  }
  snprintf(into, size, "%s/%s", folder, name);
}

int state_open(void) {
  char path[600];
  path_of("state", path, sizeof path);
  state_file = open(path, O_RDWR | O_CLOEXEC); /* stays open: it is locked while sessions are counted */
  if (state_file < 0) return 0;
  state = mmap(0, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, state_file, 0);
  return state != MAP_FAILED;
}

/* The next word, or "" at the end of the line. */
static char *word(char **rest) {
  char *found = strsep(rest, " ");
  return found ? found : "";
}
static ulong_t number(char **rest, ulong_t absent) {
  char *text = word(rest);
  return *text ? strtoul(text, 0, 0) : absent;
}
static int hex(const char *text, byte_t *into) {
  int length = (int)strlen(text) / 2;
  if (length > BYTES) length = BYTES;
  for (int at = 0; at < length; at++) { unsigned value; sscanf(text + 2 * at, "%2x", &value); into[at] = (byte_t)value; }
  return length;
}
static void text(char *into, char **rest) { snprintf(into, TEXT, "%s", *rest ? *rest : ""); *rest = 0; }
static int version(char **rest) {
  int major = 0, minor = 0;
  sscanf(word(rest), "%d.%d", &major, &minor);
  return major * 256 + minor;
}
static lie_t lie(int function, char **rest) {
  lie_t made = {.function = function, .type = number(rest, 0)};
  char *value = word(rest);
  made.length = strcmp(value, "-") ? hex(value, made.value) : -1;
  return made;
}

static fault_t fault(char **rest) {
  fault_t made = {.id = (int)number(rest, 0)};
  made.function = function_named(word(rest));
  for (char *key = word(rest); *key; key = word(rest)) {
    if (!strcmp(key, "skip")) made.skip = (unsigned)number(rest, 0);
    else if (!strcmp(key, "times")) made.times = (unsigned)number(rest, 0);
    else if (!strcmp(key, "stored")) made.stored = 1;
    else if (!strcmp(key, "data")) made.prefix_length = hex(word(rest), made.prefix);
    else if (!strcmp(key, "return")) { made.action = RETURN; made.value = number(rest, 5); }
    else if (!strcmp(key, "return-after")) { made.action = RETURN_AFTER; made.value = number(rest, 5); }
    else if (!strcmp(key, "delay")) { made.action = DELAY; made.value = number(rest, 0); }
    else if (!strcmp(key, "hang")) made.action = HANG;
    else if (!strcmp(key, "segv")) made.action = SEGV;
    else if (!strcmp(key, "abort")) made.action = ABORT;
    else if (!strcmp(key, "corrupt")) made.action = CORRUPT;
    else if (!strcmp(key, "lose-session")) made.action = LOSE_SESSION;
    else { fprintf(stderr, "shim: a fault does not know %s\n", key); abort(); }
  }
  return made;
}

static int is(const char *key, const char *name) { return !strcmp(key, name); }
static void line(control_t *c, char *rest) {
  char *key = word(&rest);
  if (!*key || *key == '#') return;
  if (c->hidden_count == MANY || c->shown_count == MANY || c->refusal_count == MANY || c->limit_count == MANY ||
      c->attribute_count == MANY || c->template_count == MANY || c->fault_count == MANY) abort();
  if (is(key, "real")) text(c->real, &rest);
  else if (is(key, "pin")) text(c->pin, &rest);
  else if (is(key, "given-pin")) text(c->given_pin, &rest);
  else if (is(key, "manufacturer")) text(c->manufacturer, &rest);
  else if (is(key, "description")) text(c->description, &rest);
  else if (is(key, "token-label")) text(c->token_label, &rest);
  else if (is(key, "token-manufacturer")) text(c->token_manufacturer, &rest);
  else if (is(key, "token-model")) text(c->token_model, &rest);
  else if (is(key, "library-version")) c->library_version = version(&rest);
  else if (is(key, "firmware")) c->firmware = version(&rest);
  else if (is(key, "hide")) c->hidden[c->hidden_count++] = number(&rest, 0);
  else if (is(key, "show")) c->shown[c->shown_count++] = number(&rest, 0);
  else if (is(key, "refuse")) {
    refusal_t made = {.function = function_named(word(&rest))};
    char *mechanism = word(&rest);
    made.mechanism = is(mechanism, "*") ? ~0ul : strtoul(mechanism, 0, 0);
    made.ckr = number(&rest, CKR_MECHANISM_INVALID);
    c->refusals[c->refusal_count++] = made;
  } else if (is(key, "limit")) {
    limit_t made = {.function = function_named(word(&rest)), .bytes = number(&rest, 0)};
    made.ckr = number(&rest, CKR_ARGUMENTS_BAD);
    c->limits[c->limit_count++] = made;
  } else if (is(key, "iv")) {
    char *rule = word(&rest);
    c->iv = is(rule, "appended") ? IV_APPENDED : is(rule, "zeroed") ? IV_ZEROED : IV_CALLER;
    c->iv_bytes = number(&rest, 12);
  } else if (is(key, "login")) {
    char *form = word(&rest);
    c->login = is(form, "colon") ? LOGIN_COLON : is(form, "ignored") ? LOGIN_IGNORED : is(form, "refused") ? LOGIN_REFUSED : LOGIN_PLAIN;
    c->login_ckr = number(&rest, CKR_PIN_INCORRECT);
  } else if (is(key, "lockout")) c->lockout = number(&rest, 0);
  else if (is(key, "read-only")) c->read_only_ckr = number(&rest, 6);
  else if (is(key, "max-sessions")) { c->max_sessions = number(&rest, 0); c->max_sessions_ckr = number(&rest, CKR_SESSION_COUNT); }
  else if (is(key, "all-sessions")) { c->all_sessions = number(&rest, 0); c->all_sessions_ckr = number(&rest, CKR_SESSION_COUNT); }
  else if (is(key, "max-objects")) { c->max_objects = number(&rest, 0); c->max_objects_ckr = number(&rest, CKR_DEVICE_MEMORY); }
  else if (is(key, "session-epoch")) c->session_epoch = number(&rest, 0);
  else if (is(key, "client-epoch")) c->client_epoch = number(&rest, 0);
  else if (is(key, "client-lost")) c->client_ckr = number(&rest, CKR_CRYPTOKI_NOT_INITIALIZED);
  else if (is(key, "idle")) c->idle_ms = number(&rest, 0);
  else if (is(key, "lost")) c->lost_ckr = number(&rest, CKR_SESSION_HANDLE_INVALID);
  else if (is(key, "absent")) c->absent = number(&rest, CKR_DEVICE_REMOVED);
  else if (is(key, "half")) c->half = 1;
  else if (is(key, "attribute")) c->attributes[c->attribute_count++] = lie(F_GetAttributeValue, &rest);
  else if (is(key, "template")) { int function = function_named(word(&rest)); c->templates[c->template_count++] = lie(function, &rest); }
  else if (is(key, "fault")) { fault_t made = fault(&rest); c->wants_stored |= made.stored; c->faults[c->fault_count++] = made; }
  else { fprintf(stderr, "shim: the control file does not know %s\n", key); abort(); }
}

void control_refresh(void) {
  uint32_t now = __atomic_load_n(&state->version, __ATOMIC_ACQUIRE);
  if (now == seen) return;
  char path[600];
  path_of("control", path, sizeof path);
  FILE *file = fopen(path, "re");
  if (!file) return;
  static control_t made; /* large; under the lock, as all of this */
  memset(&made, 0, sizeof made);
  made.library_version = made.firmware = -1;
  made.lost_ckr = CKR_SESSION_HANDLE_INVALID;
  made.client_ckr = CKR_CRYPTOKI_NOT_INITIALIZED;
  char *buffer = 0;
  size_t room = 0;
  for (ssize_t length; (length = getline(&buffer, &room, file)) > 0;) {
    if (buffer[length - 1] == '\n') buffer[length - 1] = 0;
    line(&made, buffer);
  }
  free(buffer);
  fclose(file);
  control = made;
  seen = now;
}

const fault_t *control_fault(int id) {
  for (int at = 0; at < control.fault_count; at++) if (control.faults[at].id == id) return &control.faults[at];
  return 0;
}
