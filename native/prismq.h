#ifndef PRISMQ_H
#define PRISMQ_H

#include <stdint.h>

#include "interface.h"

#define NO_TIME INT64_MIN

#endif
