/* registry: the only list of all providers. */
#ifndef PROVIDERS_REGISTRY_H
#define PROVIDERS_REGISTRY_H

#include "provider.h"

/* NULL-terminated, in the order of the manifest and of the tables for people. */
extern const struct provider *const provider_registry[];

#endif
