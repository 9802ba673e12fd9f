#include "check.h"
const test request_tests[] = {{NULL, NULL}};
