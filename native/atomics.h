/* Atomic access to words that processes share, sequentially consistent, with every compiler the module is built by. */
#ifndef PRISMQ_ATOMICS_H
#define PRISMQ_ATOMICS_H

#include <stdint.h>

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>

static __inline uint32_t load32(volatile uint32_t *at) {
  return (uint32_t)_InterlockedCompareExchange((volatile long *)at, 0, 0);
}
static __inline uint32_t exchange32(volatile uint32_t *at, uint32_t value) {
  return (uint32_t)_InterlockedExchange((volatile long *)at, (long)value);
}
static __inline uint32_t add32(volatile uint32_t *at, uint32_t value) {
  return (uint32_t)_InterlockedExchangeAdd((volatile long *)at, (long)value);
}
static __inline int swap32(volatile uint32_t *at, uint32_t from, uint32_t to) {
  return (uint32_t)_InterlockedCompareExchange((volatile long *)at, (long)to, (long)from) == from;
}
static __inline uint64_t load64(volatile uint64_t *at) {
  return (uint64_t)_InterlockedCompareExchange64((volatile __int64 *)at, 0, 0);
}
static __inline void store64(volatile uint64_t *at, uint64_t value) {
  (void)_InterlockedExchange64((volatile __int64 *)at, (__int64)value);
}
static __inline int swap64(volatile uint64_t *at, uint64_t from, uint64_t to) {
  return (uint64_t)_InterlockedCompareExchange64((volatile __int64 *)at, (__int64)to, (__int64)from) == from;
}
static __inline uint64_t or64(volatile uint64_t *at, uint64_t bits) {
  return (uint64_t)_InterlockedOr64((volatile __int64 *)at, (__int64)bits);
}
static __inline uint64_t and64(volatile uint64_t *at, uint64_t bits) {
  return (uint64_t)_InterlockedAnd64((volatile __int64 *)at, (__int64)bits);
}
#define THREAD_LOCAL __declspec(thread)

#else

static inline uint32_t load32(volatile uint32_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }
static inline uint32_t exchange32(volatile uint32_t *at, uint32_t value) {
  return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
}
/* Returns what was there before. */
static inline uint32_t add32(volatile uint32_t *at, uint32_t value) {
  return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
/* Whether `from` was there, and `to` is now. */
static inline int swap32(volatile uint32_t *at, uint32_t from, uint32_t to) {
  return __atomic_compare_exchange_n(at, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline uint64_t load64(volatile uint64_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }
static inline void store64(volatile uint64_t *at, uint64_t value) { __atomic_store_n(at, value, __ATOMIC_SEQ_CST); }
static inline int swap64(volatile uint64_t *at, uint64_t from, uint64_t to) {
  return __atomic_compare_exchange_n(at, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
/* Both return what was there before. */
static inline uint64_t or64(volatile uint64_t *at, uint64_t bits) {
  return __atomic_fetch_or(at, bits, __ATOMIC_SEQ_CST);
}
static inline uint64_t and64(volatile uint64_t *at, uint64_t bits) {
  return __atomic_fetch_and(at, bits, __ATOMIC_SEQ_CST);
}
#define THREAD_LOCAL _Thread_local

#endif

static inline void store32(volatile uint32_t *at, uint32_t value) { (void)exchange32(at, value); }

#endif
