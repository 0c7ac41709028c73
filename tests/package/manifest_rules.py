"""host contract, "Package, manifest, installing" and "Capabilities": the rules that the host applies to a plugin's manifest."""

import re

KEY = r"[a-z0-9][a-z0-9._-]*"
SEMVER = r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
FIELD = r"[A-Za-z_][A-Za-z0-9_-]*"
CATEGORIES = {"connector", "workspace", "automation", "ui"}
CAPABILITIES = {"environment.drivers.register", "plugin.state.read", "plugin.state.write", "metrics.write", "telemetry.track",
                "secrets.read-ref", "http.outbound", "activity.log.write"}
SANDBOX_CAPABILITIES = {"reusableLeases", "nativeSyncIn", "nativeSyncOut", "persistentProcessSessions", "independentControlCommands",
                        "incrementalSessionOutput", "concurrentSyncOperations", "duplexCommandStream", "runnerWebSocketIngress"}
DRIVER_FLAGS = {"supportsReusableLeases", "supportsInteractiveSetup", "supportsTemplateCapture", "supportsTemplateDelete",
                "supportsLoginPty", "supportsSetupTokenLogin"}
DRIVER_KEYS = DRIVER_FLAGS | {"driverKey", "kind", "displayName", "description", "configSchema", "sandboxCapabilities",
                              "interactiveSetupConnectionTypes", "templateRefKind", "templateConfigBinding", "templateIdentityPaths"}
TOP_KEYS = {"id", "apiVersion", "version", "displayName", "description", "author", "categories", "capabilities", "entrypoints",
            "environmentDrivers"}


class Problems(list):
    def need(self, condition, what):
        if not condition:
            self.append(what)

    def text(self, value, least, most, what):
        self.need(isinstance(value, str) and least <= len(value) <= most, f"{what}: text of {least} to {most} characters")

    def match(self, value, pattern, what):
        self.need(isinstance(value, str) and re.fullmatch(pattern, value), f"{what}: {pattern}")

    def texts(self, value, most, longest, what):
        self.need(isinstance(value, list) and len(value) <= most, f"{what}: at most {most}")
        for item in value if isinstance(value, list) else ():
            self.text(item, 1, longest, what)

    def known(self, values, known, what):
        for value in values:
            self.need(value in known, f"{what}: {value!r} is unknown")


def problems_of_template_binding(problems, binding, what):
    problems.known(binding, {"field", "unsetFields"}, what)
    unset = binding.get("unsetFields", [])
    problems.need(len(unset) <= 20 and len(set(unset)) == len(unset), f"{what}.unsetFields: at most 20, each once")
    problems.need(binding.get("field") not in unset, f"{what}.unsetFields: not the field itself")
    for name in [binding.get("field"), *unset]:
        problems.match(name, FIELD, what)
        problems.text(name, 1, 100, what)
        problems.need(name != "provider", f"{what}: never provider")


def problems_of_driver(problems, driver, what):
    problems.known(driver, DRIVER_KEYS, what)
    problems.match(driver.get("driverKey"), KEY, f"{what}.driverKey")
    problems.need(driver.get("kind") == "sandbox_provider", f"{what}.kind")
    problems.text(driver.get("displayName"), 1, 100, f"{what}.displayName")
    problems.text(driver.get("description", ""), 0, 500, f"{what}.description")
    schema = driver.get("configSchema")
    problems.need(isinstance(schema, dict) and {"type", "$ref", "oneOf", "anyOf", "allOf"} & set(schema), f"{what}.configSchema")
    for flag in DRIVER_FLAGS & set(driver):
        problems.need(isinstance(driver[flag], bool), f"{what}.{flag}: a boolean")
    problems.need(driver.get("supportsLoginPty") == driver.get("supportsSetupTokenLogin", driver.get("supportsLoginPty")),
                  f"{what}: supportsLoginPty and its old name differ")
    capabilities = driver.get("sandboxCapabilities", {})
    problems.known(capabilities, SANDBOX_CAPABILITIES, f"{what}.sandboxCapabilities")
    problems.need(all(isinstance(value, bool) for value in capabilities.values()), f"{what}.sandboxCapabilities: booleans")
    problems.texts(driver.get("interactiveSetupConnectionTypes", []), 10, 100, f"{what}.interactiveSetupConnectionTypes")
    problems.texts(driver.get("templateIdentityPaths", []), 20, 200, f"{what}.templateIdentityPaths")
    problems.text(driver.get("templateRefKind", "-"), 1, 100, f"{what}.templateRefKind")
    if "templateConfigBinding" in driver:
        problems_of_template_binding(problems, driver["templateConfigBinding"], f"{what}.templateConfigBinding")


def problems_of(manifest):
    """What the host would refuse or drop, as a list of texts."""
    problems = Problems()
    problems.known(manifest, TOP_KEYS, "manifest")  # also minimumHostVersion: the released host refuses any
    problems.match(manifest.get("id"), KEY, "id")
    problems.need(manifest.get("apiVersion") == 1 and manifest.get("apiVersion") is not True, "apiVersion: 1")
    problems.match(manifest.get("version"), SEMVER, "version")
    problems.text(manifest.get("displayName"), 1, 100, "displayName")
    problems.text(manifest.get("description"), 1, 500, "description")
    problems.text(manifest.get("author"), 1, 200, "author")
    problems.need(manifest.get("categories"), "categories: at least one")
    problems.known(manifest.get("categories", ()), CATEGORIES, "categories")
    problems.need("environment.drivers.register" in manifest.get("capabilities", ()), "capabilities: environment.drivers.register")
    problems.known(manifest.get("capabilities", ()), CAPABILITIES, "capabilities")
    problems.text(manifest.get("entrypoints", {}).get("worker"), 1, 1000, "entrypoints.worker")
    drivers = manifest.get("environmentDrivers", [])
    keys = [driver.get("driverKey") for driver in drivers]
    problems.need(drivers, "environmentDrivers: at least one")
    problems.need(len(set(keys)) == len(keys), "environmentDrivers: unique keys")
    for driver in drivers:
        problems_of_driver(problems, driver, f"driver {driver.get('driverKey')}")
    return problems


def schema_fields(schema, path=""):
    """All fields of a config schema: (path, schema)."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}{name}", field
        yield from schema_fields(field, f"{path}{name}.")
        yield from schema_fields(field.get("items", {}), f"{path}{name}[].")
