"""The board: entries that anybody can check, inputs of anybody that lower them, and one page of them all."""
