/* list: an intrusive, circular, doubly linked list. The head is a `struct list` that points to itself when empty. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev, *next;
};

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))
#define LIST_INIT(head) {&(head), &(head)}

static inline void list_init(struct list *list)
{
	list->prev = list->next = list;
}

static inline bool list_empty(const struct list *list)
{
	return list->next == list;
}

static inline void list_append(struct list *head, struct list *item)
{
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}

/* Takes the item out of its list and leaves it a list of its own, so that a second call does no harm. */
static inline void list_remove(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

/* The first item, taken out; NULL if there is none. */
static inline struct list *list_pop(struct list *head)
{
	struct list *item = head->next;

	if (item == head)
		return NULL;
	list_remove(item);
	return item;
}

/* The body may remove the current item. */
#define list_for_each(item, head) \
	for (struct list *item = (head)->next, *item##_next = item->next; item != (head); \
	     item = item##_next, item##_next = item->next)

#endif
