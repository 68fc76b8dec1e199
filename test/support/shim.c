/* A PKCS#11 library that passes everything on to SoftHSM but misbehaves on demand. Built by the tests with
   -DCONTROL="folder" -DREAL="path". Files in the folder say what to do; "once" files are removed when they are obeyed.
     sign        "hang" | "crash" | "wait" (until the file is gone) | a CKR value in decimal (once); obeyed where the
                 data begins with 0xee, so that self-tests pass
     generate    "wait": C_GenerateKeyPair waits until the file is gone
     login       a CKR value in decimal, returned by every C_Login
     weak        C_GenerateKey and C_GenerateKeyPair lose SENSITIVE and EXTRACTABLE of the template
     stubborn    and C_SetAttributeValue does not repair it (CKR_ATTRIBUTE_READ_ONLY)
     sessions    C_OpenSession returns CKR_SESSION_COUNT
     calls       C_Login, C_SignInit, C_Logout, C_CloseSession and C_Finalize append a line, if the file exists */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef struct { ulong_t type; void *value; ulong_t length; } attribute_t;
typedef struct { unsigned char major, minor; void *functions[68]; } list_t;
enum { FINALIZE = 1, OPEN_SESSION = 12, CLOSE_SESSION = 13, LOGIN = 18, LOGOUT = 19, SET_ATTRIBUTE = 25, SIGN_INIT = 42, SIGN = 43,
       GENERATE_KEY = 58, GENERATE_KEY_PAIR = 59 };
static list_t *real, shim;

static int text(const char *name, char *into, size_t size) {
  char path[512];
  snprintf(path, sizeof path, CONTROL "/%s", name);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  size_t got = fread(into, 1, size - 1, file);
  fclose(file);
  into[got] = 0;
  return 1;
}
static int exists(const char *name) { char ignored[2]; return text(name, ignored, sizeof ignored); }
static void drop(const char *name) { char path[512]; snprintf(path, sizeof path, CONTROL "/%s", name); unlink(path); }
static void note(const char *what) {
  if (!exists("calls")) return;
  FILE *file = fopen(CONTROL "/calls", "a");
  if (file) { fprintf(file, "%s\n", what); fclose(file); }
}

static ulong_t finalize(void *reserved) {
  note("C_Finalize");
  return ((ulong_t (*)(void *))real->functions[FINALIZE])(reserved);
}
static ulong_t open_session(ulong_t slot, ulong_t flags, void *application, void *notify, ulong_t *session) {
  if (exists("sessions")) return 0xb1;
  return ((ulong_t (*)(ulong_t, ulong_t, void *, void *, ulong_t *))real->functions[OPEN_SESSION])(slot, flags, application, notify, session);
}
static ulong_t close_session(ulong_t session) {
  note("C_CloseSession");
  return ((ulong_t (*)(ulong_t))real->functions[CLOSE_SESSION])(session);
}
static ulong_t logout(ulong_t session) {
  note("C_Logout");
  return ((ulong_t (*)(ulong_t))real->functions[LOGOUT])(session);
}
static ulong_t login(ulong_t session, ulong_t user, unsigned char *pin, ulong_t length) {
  char order[32];
  note("C_Login");
  if (text("login", order, sizeof order)) return strtoul(order, 0, 10);
  return ((ulong_t (*)(ulong_t, ulong_t, unsigned char *, ulong_t))real->functions[LOGIN])(session, user, pin, length);
}
static ulong_t sign_init(ulong_t session, void *mechanism, ulong_t key) {
  note("C_SignInit");
  return ((ulong_t (*)(ulong_t, void *, ulong_t))real->functions[SIGN_INIT])(session, mechanism, key);
}
static ulong_t sign(ulong_t session, void *data, ulong_t length, void *out, ulong_t *out_length) {
  char order[32];
  if (length > 0 && *(unsigned char *)data == 0xee && text("sign", order, sizeof order)) {
    if (!strncmp(order, "hang", 4)) for (;;) pause();
    if (!strncmp(order, "crash", 5)) abort();
    if (!strncmp(order, "wait", 4)) while (exists("sign")) usleep(1000);
    else {
      drop("sign"); /* the real call ends the operation that C_SignInit began */
      ((ulong_t (*)(ulong_t, void *, ulong_t, void *, ulong_t *))real->functions[SIGN])(session, data, length, out, out_length);
      return strtoul(order, 0, 10);
    }
  }
  return ((ulong_t (*)(ulong_t, void *, ulong_t, void *, ulong_t *))real->functions[SIGN])(session, data, length, out, out_length);
}
static ulong_t set_attribute(ulong_t session, ulong_t object, attribute_t *attributes, ulong_t count) {
  if (exists("stubborn")) return 0x10;
  return ((ulong_t (*)(ulong_t, ulong_t, attribute_t *, ulong_t))real->functions[SET_ATTRIBUTE])(session, object, attributes, count);
}
static ulong_t weaken(attribute_t *attributes, ulong_t count) {
  if (!exists("weak")) return count;
  for (ulong_t at = 0; at < count; at++) {
    if (attributes[at].type == 0x103) *(unsigned char *)attributes[at].value = 0; /* CKA_SENSITIVE */
    if (attributes[at].type == 0x162) *(unsigned char *)attributes[at].value = 1; /* CKA_EXTRACTABLE */
  }
  return count;
}
static ulong_t generate_key(ulong_t session, void *mechanism, attribute_t *attributes, ulong_t count, ulong_t *key) {
  count = weaken(attributes, count);
  return ((ulong_t (*)(ulong_t, void *, attribute_t *, ulong_t, ulong_t *))real->functions[GENERATE_KEY])(session, mechanism, attributes, count, key);
}
static ulong_t generate_pair(ulong_t session, void *mechanism, attribute_t *pub, ulong_t pub_count, attribute_t *priv,
                             ulong_t priv_count, ulong_t *public_key, ulong_t *private_key) {
  while (exists("generate")) usleep(1000);
  priv_count = weaken(priv, priv_count);
  return ((ulong_t (*)(ulong_t, void *, attribute_t *, ulong_t, attribute_t *, ulong_t, ulong_t *, ulong_t *))
              real->functions[GENERATE_KEY_PAIR])(session, mechanism, pub, pub_count, priv, priv_count, public_key, private_key);
}

ulong_t C_GetFunctionList(list_t **list) {
  void *library = dlopen(REAL, RTLD_NOW);
  ulong_t (*get)(list_t **) = library ? (ulong_t (*)(list_t **))dlsym(library, "C_GetFunctionList") : 0;
  if (!get || get(&real)) return 5;
  shim = *real;
  shim.functions[FINALIZE] = finalize;
  shim.functions[OPEN_SESSION] = open_session;
  shim.functions[CLOSE_SESSION] = close_session;
  shim.functions[LOGIN] = login;
  shim.functions[LOGOUT] = logout;
  shim.functions[SET_ATTRIBUTE] = set_attribute;
  shim.functions[SIGN_INIT] = sign_init;
  shim.functions[SIGN] = sign;
  shim.functions[GENERATE_KEY] = generate_key;
  shim.functions[GENERATE_KEY_PAIR] = generate_pair;
  *list = &shim;
  return 0;
}
