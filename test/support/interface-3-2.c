/* A library with an interface of PKCS #11, to see what reaches C_DecapsulateKey and which lists are taken. VERSION is the
 * minor version of its function list; it answers a question for 3.2 with it, as some modules do with an older one. */
#include <string.h>

typedef unsigned long ulong;
typedef struct { ulong type; unsigned char *value; ulong length; } attribute;
typedef struct { ulong mechanism; void *parameter; ulong length; } mechanism;
typedef struct { unsigned char major, minor; } version;
typedef struct { char *name; void *list; ulong flags; } interface;

/* CKR_OK and a handle where it is given what the test gives; CKR_ARGUMENTS_BAD else. */
static ulong decapsulate(ulong session, mechanism *m, ulong key, attribute *t, ulong count, unsigned char *text,
                         ulong length, ulong *made) {
  const ulong large = 0x1122334455667788UL;
  if (session != 7 || key != large || m->mechanism != 0x17 || m->parameter != 0 || m->length != 0) return 7;
  if (length != 3 || memcmp(text, "abc", 3) != 0 || count != 3) return 7;
  if (t[0].type != 0 || t[0].length != 8 || *(ulong *)t[0].value != 4) return 7;
  if (t[1].type != 0x103 || t[1].length != 1 || *t[1].value != 1) return 7;
  if (t[2].type != 0x102 || t[2].length != 2 || memcmp(t[2].value, "id", 2) != 0) return 7;
  *made = large + 1;
  return 0;
}

static struct { version version; void *functions[94]; } list;
static interface offered = {"PKCS 11", &list, 0};

ulong C_GetInterface(char *name, version *wanted, interface **found, ulong flags) {
  if (strcmp(name, "PKCS 11") != 0 || wanted->major != 3 || wanted->minor != 2 || flags != 0) return 7;
  list.version.major = 3;
  list.version.minor = VERSION;
  list.functions[93] = WITH_FUNCTION ? (void *)decapsulate : 0;
  *found = &offered;
  return 0;
}
