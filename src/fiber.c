/*
 * How a fiber lives: fiber_start takes a stack from the pool (or maps one) and puts the fiber into the ready queue. The queue is
 * drained twice a turn of the loop: before it polls (what timers made ready) and after (what I/O made ready). A fiber runs until
 * it waits or ends; either way control returns to the drain. A waiting fiber is made ready by its event, its timer or a
 * cancellation, whichever comes first, and finds out by itself which it was.
 *
 * A new stack is entered once by setcontext (which costs system calls); from then on all switches are _setjmp/_longjmp. A
 * stack in the pool keeps its trampoline, which then calls the next function. QEMU's coroutine-ucontext.c works in this way.
 *
 * This file is built without _FORTIFY_SOURCE: its longjmp check takes a jump to another stack for an error.
 */
#include "fiber.h"

#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_BYTES (256 * 1024)
#define POOL_MAX 128
#define SWITCHES_PER_DRAIN 10000 /* then the loop gets a turn, though fibers are ready */

struct fiber {
	struct list link; /* in the ready queue or the pool */
	struct list group_link;
	struct fiber_group *group; /* NULL: none */
	fiber_fn *fn;
	void *arg;
	struct event *waiting_on; /* NULL in a plain sleep */
	bool waiting;
	bool ready;
	bool cancelled;
	bool shielded;
	bool ended;
	bool entered;        /* the stack has its trampoline */
	int64_t deadline_ms; /* on the loop's clock */
	uv_timer_t timer;
	jmp_buf env;
	char *stack; /* mapped; the guard page first */
	unsigned valgrind_id;
	void *fake_stack; /* AddressSanitizer's, while the fiber does not run */
};

struct scheduler {
	uv_loop_t *loop; /* borrowed */
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle; /* active while fibers are ready: the poll must not block, the loop must not end */
	struct list ready;
	struct list pool;
	size_t page; /* size of the guard below each stack */
	unsigned pooled;
	unsigned live;
	struct fiber *running;
	jmp_buf env; /* of the drain, while a fiber runs */
	void *fake_stack;
	/* Not locals: the frame that enters a new stack is never returned to, and its red zones would stay poisoned. */
	ucontext_t entry;
	const void *stack_bottom; /* of the thread, for AddressSanitizer */
	size_t stack_size;
};

static struct scheduler *sched;

/* --- switching --- */

static void asan_leave(void **fake_stack, const void *bottom, size_t size)
{
#ifdef WITH_ASAN
	__sanitizer_start_switch_fiber(fake_stack, bottom, size);
#else
	(void)fake_stack, (void)bottom, (void)size;
#endif
}

static void asan_arrive(void *fake_stack, const void **bottom, size_t *size)
{
#ifdef WITH_ASAN
	__sanitizer_finish_switch_fiber(fake_stack, bottom, size);
#else
	(void)fake_stack, (void)bottom, (void)size;
#endif
}

static void switch_to_loop(struct fiber *f)
{
	if (_setjmp(f->env) == 0) {
		asan_leave(&f->fake_stack, sched->stack_bottom, sched->stack_size);
		_longjmp(sched->env, 1);
	}
	asan_arrive(f->fake_stack, &sched->stack_bottom, &sched->stack_size);
}

/* makecontext passes ints: the pointer comes in two halves. */
static void trampoline(unsigned low, unsigned high)
{
	struct fiber *f = (struct fiber *)(((uintptr_t)high << 16 << 16) | low);

	asan_arrive(NULL, &sched->stack_bottom, &sched->stack_size);
	for (;;) {
		f->fn(f->arg);
		f->ended = true;
		switch_to_loop(f);
	}
}

static void enter_new_stack(struct fiber *f)
{
	ucontext_t *context = &sched->entry;
	uintptr_t p = (uintptr_t)f;

	f->entered = true;
	getcontext(context);
	context->uc_stack.ss_sp = f->stack + sched->page;
	context->uc_stack.ss_size = STACK_BYTES;
	context->uc_link = NULL;
	makecontext(context, (void (*)(void))trampoline, 2, (unsigned)p, (unsigned)(p >> 16 >> 16));
#ifdef WITH_ASAN
	/* Another stack may have been at this address. */
	__asan_unpoison_memory_region(context->uc_stack.ss_sp, context->uc_stack.ss_size);
#endif
	/* Nobody comes back by the context: the way out is the longjmp to sched->env. */
	setcontext(context);
}

static void switch_to_fiber(struct fiber *f)
{
	if (_setjmp(sched->env) == 0) {
		asan_leave(&sched->fake_stack, f->stack + sched->page, STACK_BYTES);
		if (!f->entered)
			enter_new_stack(f);
		_longjmp(f->env, 1);
	}
	asan_arrive(sched->fake_stack, NULL, NULL);
}

/* --- stacks --- */

static struct fiber *fiber_create(void)
{
	struct fiber *f = xcalloc(1, sizeof(*f));

	f->stack = mmap(NULL, sched->page + STACK_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (f->stack == MAP_FAILED || mprotect(f->stack, sched->page, PROT_NONE) < 0) {
		fprintf(stderr, "paperclip-sandbox-worker: no memory for a fiber's stack: %s\n", strerror(errno));
		abort();
	}
	f->valgrind_id = VALGRIND_STACK_REGISTER(f->stack + sched->page, f->stack + sched->page + STACK_BYTES);
	(void)f->valgrind_id;
	list_init(&f->link);
	list_init(&f->group_link);
	uv_timer_init(sched->loop, &f->timer);
	f->timer.data = f;
	return f;
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct fiber *f = handle->data;

	VALGRIND_STACK_DEREGISTER(f->valgrind_id);
	munmap(f->stack, sched->page + STACK_BYTES);
	free(f);
}

static void fiber_retire(struct fiber *f)
{
	sched->live--;
	if (sched->pooled >= POOL_MAX) {
		uv_close((uv_handle_t *)&f->timer, on_timer_closed);
		return;
	}
	sched->pooled++;
	list_append(&sched->pool, &f->link);
}

/* --- the ready queue --- */

static void on_idle(uv_idle_t *idle)
{
	(void)idle; /* being active is all that it is for */
}

static void make_ready(struct fiber *f)
{
	if (f->ready)
		return;
	f->ready = true;
	list_append(&sched->ready, &f->link);
	uv_idle_start(&sched->idle, on_idle);
}

static void fiber_end(struct fiber *f)
{
	struct fiber_group *group = f->group;

	if (group) {
		list_remove(&f->group_link);
		f->group = NULL;
		if (list_empty(&group->children))
			event_set(&group->emptied);
	}
	fiber_retire(f);
}

static void drain(void)
{
	assert(!sched->running);
	for (int i = 0; i < SWITCHES_PER_DRAIN; i++) {
		struct list *item = list_pop(&sched->ready);

		if (!item)
			break;
		struct fiber *f = container_of(item, struct fiber, link);

		f->ready = false;
		sched->running = f;
		switch_to_fiber(f);
		sched->running = NULL;
		if (f->ended)
			fiber_end(f);
	}
	if (list_empty(&sched->ready))
		uv_idle_stop(&sched->idle);
}

static void on_prepare(uv_prepare_t *prepare)
{
	(void)prepare;
	drain();
}

static void on_check(uv_check_t *check)
{
	(void)check;
	drain();
}

struct scheduler *scheduler_create(uv_loop_t *loop)
{
	assert(!sched);
	sched = xcalloc(1, sizeof(*sched));
	sched->loop = loop;
	sched->page = (size_t)sysconf(_SC_PAGESIZE);
	list_init(&sched->ready);
	list_init(&sched->pool);
	uv_prepare_init(loop, &sched->prepare);
	uv_check_init(loop, &sched->check);
	uv_idle_init(loop, &sched->idle);
	uv_prepare_start(&sched->prepare, on_prepare);
	uv_check_start(&sched->check, on_check);
	uv_unref((uv_handle_t *)&sched->prepare);
	uv_unref((uv_handle_t *)&sched->check);
	return sched;
}

void scheduler_destroy(struct scheduler *s)
{
	if (!s)
		return;
	assert(s == sched && s->live == 0 && !s->running);
	for (struct list *item = list_pop(&s->pool); item; item = list_pop(&s->pool))
		uv_close((uv_handle_t *)&container_of(item, struct fiber, link)->timer, on_timer_closed);
	uv_close((uv_handle_t *)&s->prepare, NULL);
	uv_close((uv_handle_t *)&s->check, NULL);
	uv_close((uv_handle_t *)&s->idle, NULL);
	uv_run(s->loop, UV_RUN_DEFAULT);
	free(s);
	sched = NULL;
}

uv_loop_t *scheduler_loop(void)
{
	return sched->loop;
}

int64_t loop_now_ms(void)
{
	return (int64_t)uv_now(sched->loop);
}

unsigned fiber_count(void)
{
	return sched->live;
}

/* --- waiting --- */

static void on_timer(uv_timer_t *timer)
{
	make_ready(timer->data);
}

static int64_t add_ms(int64_t now, int64_t ms)
{
	return ms >= DEADLINE_NONE - now ? DEADLINE_NONE : now + (ms < 0 ? 0 : ms);
}

/* Why the running fiber may not wait (any more): set in err and -1; else 0. */
static int check_scope(const struct fiber *f, struct err *err)
{
	if (f->cancelled && !f->shielded)
		return err_set(err, ERR_CANCELLED, "cancelled");
	if (f->deadline_ms <= loop_now_ms())
		return err_set(err, ERR_TIMEOUT, "deadline passed");
	return 0;
}

/* Gives the loop its turn until something makes the fiber ready, at the latest at until_ms. */
static void suspend(struct fiber *f, struct event *event, int64_t until_ms)
{
	if (event) {
		assert(!event->waiter);
		event->waiter = f;
	}
	f->waiting_on = event;
	f->waiting = true;
	if (until_ms != DEADLINE_NONE) {
		int64_t left = until_ms - loop_now_ms();

		uv_timer_start(&f->timer, on_timer, left > 0 ? (uint64_t)left : 0, 0);
	}
	switch_to_loop(f);
	if (until_ms != DEADLINE_NONE)
		uv_timer_stop(&f->timer);
	f->waiting = false;
	f->waiting_on = NULL;
	if (event)
		event->waiter = NULL;
}

static int wait_until(struct event *event, int64_t until_ms, bool *ret_set, struct err *err)
{
	struct fiber *f = sched->running;

	assert(f);
	for (;;) {
		if (check_scope(f, err) < 0)
			return -1;
		if (event && event->set) {
			event->set = false;
			*ret_set = true;
			return 0;
		}
		if (until_ms <= loop_now_ms()) {
			*ret_set = false;
			return 0;
		}
		suspend(f, event, until_ms < f->deadline_ms ? until_ms : f->deadline_ms);
	}
}

void event_set(struct event *event)
{
	event->set = true;
	if (event->waiter)
		make_ready(event->waiter);
}

int event_wait(struct event *event, struct err *err)
{
	bool set;

	return wait_until(event, DEADLINE_NONE, &set, err);
}

int event_wait_for(struct event *event, int64_t ms, bool *ret_set, struct err *err)
{
	return wait_until(event, ms < 0 ? DEADLINE_NONE : add_ms(loop_now_ms(), ms), ret_set, err);
}

int fiber_sleep(int64_t ms, struct err *err)
{
	bool set;

	return wait_until(NULL, add_ms(loop_now_ms(), ms), &set, err);
}

int fiber_yield(struct err *err)
{
	struct fiber *f = sched->running;

	if (check_scope(f, err) < 0)
		return -1;
	make_ready(f);
	suspend(f, NULL, DEADLINE_NONE);
	return check_scope(f, err);
}

/* --- scopes --- */

static struct fiber *enter(struct fiber_scope *scope)
{
	struct fiber *f = sched->running;

	assert(f);
	*scope = (struct fiber_scope){.deadline_ms = f->deadline_ms, .shielded = f->shielded};
	return f;
}

void deadline_enter(struct fiber_scope *scope, int64_t ms)
{
	struct fiber *f = enter(scope);
	int64_t deadline = add_ms(loop_now_ms(), ms);

	if (deadline < f->deadline_ms)
		f->deadline_ms = deadline;
}

void shield_enter(struct fiber_scope *scope, int64_t ms)
{
	struct fiber *f = enter(scope);
	int64_t deadline = add_ms(loop_now_ms(), ms);

	/* A shield inside a shield may be shorter, not longer: the outer one's limit is a promise. */
	if (!f->shielded || deadline < f->deadline_ms)
		f->deadline_ms = deadline;
	f->shielded = true;
}

void scope_leave(struct fiber_scope *scope)
{
	struct fiber *f = sched->running;

	f->deadline_ms = scope->deadline_ms;
	f->shielded = scope->shielded;
}

int64_t deadline_left_ms(void)
{
	const struct fiber *f = sched->running;
	int64_t now = loop_now_ms();

	if (f->deadline_ms == DEADLINE_NONE)
		return DEADLINE_NONE;
	return f->deadline_ms > now ? f->deadline_ms - now : 0;
}

/* --- starting, cancelling, joining --- */

struct fiber *fiber_start(fiber_fn *fn, void *arg)
{
	struct list *item = list_pop(&sched->pool);
	struct fiber *f;

	if (item) {
		f = container_of(item, struct fiber, link);
		sched->pooled--;
	} else {
		f = fiber_create();
	}
	f->fn = fn;
	f->arg = arg;
	f->ended = f->cancelled = f->shielded = false;
	f->deadline_ms = DEADLINE_NONE;
	sched->live++;
	make_ready(f);
	return f;
}

struct fiber *fiber_self(void)
{
	return sched->running;
}

void fiber_cancel(struct fiber *fiber)
{
	fiber->cancelled = true;
	if (fiber->waiting && !fiber->shielded)
		make_ready(fiber);
}

bool fiber_is_cancelled(void)
{
	return sched->running->cancelled;
}

void fiber_group_init(struct fiber_group *group)
{
	list_init(&group->children);
	group->emptied = (struct event){0};
}

void fiber_group_start(struct fiber_group *group, fiber_fn *fn, void *arg)
{
	const struct fiber *self = sched->running;
	struct fiber *f = fiber_start(fn, arg);

	assert(self);
	f->deadline_ms = self->deadline_ms;
	f->shielded = self->shielded;
	f->cancelled = self->cancelled;
	f->group = group;
	list_append(&group->children, &f->group_link);
}

void fiber_group_cancel(struct fiber_group *group)
{
	list_for_each(item, &group->children)
		fiber_cancel(container_of(item, struct fiber, group_link));
}

int fiber_group_join(struct fiber_group *group, struct err *err)
{
	int rc = 0;

	while (!list_empty(&group->children)) {
		if (rc == 0 && event_wait(&group->emptied, err) == 0)
			continue;
		if (rc < 0) {
			/* The children end by themselves once they are cancelled: only they limit this wait. */
			struct fiber_scope scope;

			shield_enter(&scope, DEADLINE_NONE);
			event_wait(&group->emptied, NULL);
			scope_leave(&scope);
			continue;
		}
		rc = -1;
		fiber_group_cancel(group);
	}
	return rc;
}
