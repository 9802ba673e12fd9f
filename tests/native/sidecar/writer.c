#include "writer.h"

enum { WRITE_LOCK = 1 << 20, LOCK_BYTES = 8 };

/* One who is willing to wait rests first if so ordered. */
static take_end ask(writer *self, int waits) {
  return waits && gate_rest_ordered_us(&self->view, &self->pass) ? TOO_LONG : writer_ask(self);
}

void writer_open(writer *self) {
  memset(self, 0, sizeof *self);
  view_open(&self->view);
  EXPECT(platform_map(&self->lock, "lock", DATABASE, LOCK_BYTES));
  self->pass.jitter = (uint32_t)(uintptr_t)self ^ (uint32_t)now_us();
}

void writer_close(writer *self) {
  view_close(&self->view);
  platform_unmap(&self->lock);
}

take_end writer_ask(writer *self) {
  if (!gate_may_ask(&self->view, &self->pass)) return TOO_LONG;
  if (!platform_try_lock(&self->lock, WRITE_LOCK)) return gate_is_own(&self->view) ? BY_ITSELF : TOO_LONG;
  gate_enter(&self->view, &self->pass);
  return TAKEN;
}

take_end writer_take(writer *self, int64_t timeout_us) {
  (void)sidecar_renew(&self->view);
  int64_t asked = now_us(), waited = 0;
  take_end end = ask(self, timeout_us > 0);
  while (end == TOO_LONG && waited < timeout_us) {
    gate_wait(&self->view, &self->pass, waited, timeout_us - waited);
    end = ask(self, 1);
    waited = now_us() - asked;
  }
  if (end == TOO_LONG) gate_give_up(&self->view, &self->pass);
  return end;
}

void writer_give(writer *self) {
  platform_unlock(&self->lock, WRITE_LOCK);
  (void)gate_leave(&self->view, &self->pass, 0);
}
