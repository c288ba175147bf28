"""One tool that answers from memory, without authentication and without sessions. Usage: fastmcp_server.py PORT"""

import sys

from fastmcp import FastMCP

NOTES = [{"id": 1, "body": "note 1"}]

server = FastMCP("bench")


@server.tool
def list_notes() -> list[dict]:
    """Lists the notes."""
    return NOTES


if __name__ == "__main__":
    server.run(
        transport="http",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        path="/mcp/",
        stateless_http=True,
        json_response=True,
        log_level="error",
        uvicorn_config={"access_log": False},
    )
