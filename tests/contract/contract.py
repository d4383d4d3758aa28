"""openapi/mayfly.yaml, as something to hold a server to."""

import json

import jsonschema
import yaml


class Contract:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.doc = yaml.safe_load(f)
        self.seen = set()  # (method, path, status)

    def resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            target = self.doc
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def errors(self, schema, value):
        """What is wrong with the value, as sentences."""
        validator = jsonschema.Draft202012Validator(
            {"allOf": [schema], "components": self.doc["components"]})
        return [f"{'/'.join(map(str, e.path))}: {e.message}"
                for e in validator.iter_errors(value)]

    def operations(self):
        """(method, path, operation) of all."""
        for path, item in self.doc["paths"].items():
            for method, op in item.items():
                if method != "parameters":
                    yield method.upper(), path, op

    def url(self, path, vm, sub=None):
        """A path with its parameters filled in: sub is the one behind {id},
        as in the examples if it is not given."""
        path = path.replace("{id}", vm)
        for p in self.doc["components"]["parameters"].values():
            path = path.replace("{%s}" % p["name"], sub or p["example"])
        return path

    def operation(self, method, path):
        return self.doc["paths"][path][method.lower()]

    def request_schema(self, method, path):
        content = self.operation(method, path)["requestBody"]["content"]
        return content["application/json"]["schema"]

    def check(self, method, path, response):
        """Raises unless the response is one of those written down."""
        op = self.operation(method, path)
        where = f"{method} {path} -> {response.status}"
        if str(response.status) not in op["responses"]:
            raise AssertionError(f"{where} is not in the contract: "
                                 f"{response.body[:300]}")
        spec = self.resolve(op["responses"][str(response.status)])
        self.seen.add((method, path, response.status))
        content = spec.get("content")
        if not content:
            if response.body:
                raise AssertionError(f"{where} has a body")
            return
        kind = response.headers.get("content-type")
        if kind not in content:
            raise AssertionError(f"{where} has Content-Type {kind}")
        if kind == "application/json":
            problems = self.errors(content[kind]["schema"],
                                   json.loads(response.body))
            if problems:
                raise AssertionError(f"{where}: {problems}")

    def examples(self):
        """(where, schema, value) of each."""
        for method, path, op in self.operations():
            contents = [("request", op.get("requestBody", {}))]
            contents += [(s, self.resolve(r))
                         for s, r in op["responses"].items()]
            for what, holder in contents:
                for kind, media in holder.get("content", {}).items():
                    if kind != "application/json":
                        continue
                    values = [self.resolve(e)["value"]
                              for e in media.get("examples", {}).values()]
                    if "example" in media:
                        values.append(media["example"])
                    for value in values:
                        yield (f"{method} {path} {what}", media["schema"],
                               value)
                    if not values:
                        raise AssertionError(
                            f"{method} {path} {what} has no example")
