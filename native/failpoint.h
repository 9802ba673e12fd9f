/* Places where tests let a process die. In what people install there are none. */
#ifndef PRISMQ_FAILPOINT_H
#define PRISMQ_FAILPOINT_H

#ifdef PRISMQ_FAILPOINTS
void failpoint_reached(const char *name); /* brought by the test */
#define FAILPOINT(name) failpoint_reached(#name)
#else
#define FAILPOINT(name) (void)0
#endif

#endif
