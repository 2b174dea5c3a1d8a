// launch/arguments.h: what the library for command lines leaves to us: numbers that are read as in
// a recipe (never as octal), texts that are not empty, and errors of one line.
#pragma once

#include <cstdint>
#include <string>

#include "core/settings.h"

namespace CLI {
class App;
class Option;
class ParseError;
}  // namespace CLI

namespace strait {

// An option with a decimal number. --help shows the default when `show_default`. While the line is
// parsed a wrong number throws RecipeError: "--threads: 0 is out of range (at least 1, at most
// 4096)".
struct NumberOption {
  const char* name = "";
  FieldRange range = {};
  const char* doc = "";
  bool show_default = false;
};
CLI::Option* add_number(CLI::App* command, const NumberOption& option, int& value);
CLI::Option* add_number(CLI::App* command, const NumberOption& option, int64_t& value);
CLI::Option* add_number(CLI::App* command, const NumberOption& option, uint64_t& value);
CLI::Option* add_number(CLI::App* command, const NumberOption& option, double& value);

// An option, or an argument, with a text that may not be empty.
CLI::Option* add_text(CLI::App* command, const std::string& name, std::string& value,
                      const std::string& doc);

// What is wrong with the line, what may have been meant, and whose --help says more.
std::string describe_error(const CLI::App& app, const CLI::ParseError& error);

}  // namespace strait
