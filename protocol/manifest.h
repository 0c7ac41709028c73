/* manifest: the plugin's manifest, built from the drivers' own declarations (host contract, "Package, manifest, installing"). */
#ifndef PROTOCOL_MANIFEST_H
#define PROTOCOL_MANIFEST_H

#include <jansson.h>
#include <stddef.h>

/* declarations: JSON texts of `environmentDrivers` entries. New reference; our own texts are known to be good (asserted). */
json_t *manifest_build(const char *version, const char *const *declarations, size_t count);
/* Names of the config keys of a declaration that hold secrets ("format": "secret-ref"), at any level: new array of strings. */
json_t *manifest_secret_keys(const json_t *declaration);

#endif
