"""The documentation as a site: `make docs` prepares its pages, builds them with MkDocs, and looks at what came out."""
