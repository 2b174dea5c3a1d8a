#include "launch/arguments.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

#include "core/errors.h"
#include "recipes/reader.h"
#include "recipes/scalar.h"

namespace strait {
namespace {

ReadOr<int64_t> read_as(const std::string& text, int64_t) { return read_integer(text); }
ReadOr<double> read_as(const std::string& text, double) { return read_real(text); }

// Read: int64_t or double.
template <class Read, class T>
CLI::Option* add(CLI::App* command, const NumberOption& option, T& value) {
  const auto read = [name = std::string(option.name), range = option.range,
                     &value](const std::string& text) {
    const ReadOr<Read> result = read_as(text, Read{});
    if (const auto* problem = std::get_if<std::string>(&result))
      throw RecipeError(name + ": " + *problem);
    const Read number = std::get<Read>(result);
    if (!range.contains(static_cast<double>(number)))
      throw RecipeError(
          fmt::format("{}: {} is out of range ({})", name, shortened(text), range_text(range)));
    value = static_cast<T>(number);
  };
  CLI::Option* added = command->add_option_function<std::string>(option.name, read, option.doc);
  added->type_name(std::is_integral_v<Read> ? "INT" : "FLOAT");
  if (option.show_default) added->default_str(fmt::format("{}", value));
  return added;
}

// The innermost command that the line names, and its words: "strait data prepare".
const CLI::App* innermost(const CLI::App& app, std::string& words) {
  const CLI::App* command = &app;
  words = app.get_name();
  for (auto inner = command->get_subcommands(); !inner.empty();
       inner = command->get_subcommands()) {
    command = inner.back();
    words += " " + command->get_name();
  }
  return command;
}

std::vector<std::string> commands_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* inner : command.get_subcommands({})) names.push_back(inner->get_name());
  return names;
}

std::string meant_text(const std::string& word, const std::vector<std::string>& names) {
  const std::string meant = closest_name(word, names);
  return meant.empty() ? "" : fmt::format("; did you mean '{}'?", meant);
}

// About the first argument that nothing took.
std::string describe_extra(const CLI::App& command, const std::string& extra) {
  std::vector<std::string> names;
  if (extra.starts_with('-')) {
    for (const CLI::Option* option : command.get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    const std::string flag = extra.substr(0, extra.find('='));
    return fmt::format("unknown option '{}'{}", shortened(flag), meant_text(flag, names));
  }
  names = commands_of(command);
  if (names.empty()) return fmt::format("unexpected argument '{}'", shortened(extra));
  return fmt::format("unknown command '{}'{}", shortened(extra), meant_text(extra, names));
}

}  // namespace

CLI::Option* add_number(CLI::App* command, const NumberOption& option, int& value) {
  return add<int64_t>(command, option, value);
}
CLI::Option* add_number(CLI::App* command, const NumberOption& option, int64_t& value) {
  return add<int64_t>(command, option, value);
}
CLI::Option* add_number(CLI::App* command, const NumberOption& option, uint64_t& value) {
  return add<int64_t>(command, option, value);
}
CLI::Option* add_number(CLI::App* command, const NumberOption& option, double& value) {
  return add<double>(command, option, value);
}

CLI::Option* add_text(CLI::App* command, const std::string& name, std::string& value,
                      const std::string& doc) {
  const CLI::Validator not_empty(
      [](std::string& text) { return std::string(text.empty() ? "is empty" : ""); }, "");
  return command->add_option(name, value, doc)->check(not_empty);
}

std::string describe_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string words;
  const CLI::App* command = innermost(app, words);
  std::vector<std::string> extras = command->remaining();
  if (extras.empty()) extras = app.remaining();
  std::string problem = error.what();
  const size_t twice = problem.find(": At Most 1 required but received");
  if (!extras.empty()) {
    problem = describe_extra(*command, extras[0]);
  } else if (const std::vector<std::string> inner = commands_of(*command); !inner.empty()) {
    problem = fmt::format("expected a command: {}", fmt::join(inner, ", "));
  } else if (twice != std::string::npos) {
    problem = problem.substr(0, twice) + " is given more than once";
  }
  return fmt::format("{} (see {} --help)", problem, words);
}

}  // namespace strait
