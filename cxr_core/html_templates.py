"""HTML from the jinja2 templates of a package, which lie in its folder `templates`; every value is escaped."""

from typing import Any

import jinja2


def render(package: str | None, template: str, **values: Any) -> str:
    """A template of the package, filled in; a value that is missing is an error.

    Args:
        package: as `__package__` says in the package's own modules.
        template: the name of a file, as "report.html.j2".
        values: by their names in the template.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package or ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
