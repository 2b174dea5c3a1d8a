// core/errors.h: the exceptions Strait throws, and the check for its own bugs.
// Nothing below launch/ prints or exits: launch/ catches once, prints one line and picks the exit
// code. Message form: "[all_to_all] expected 512 rows from rank 3, got 480 (step 17, layer 4)".
#pragma once

#include <stdexcept>
#include <string>

namespace strait {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The user asked for something that cannot be: a recipe, a flag, a layout. Exit code 2.
class RecipeError : public Error {
 public:
  using Error::Error;
};

// A file is missing, cut short, corrupt, of another kind, or the disk is full. Exit code 3.
class DataError : public Error {
 public:
  using Error::Error;
};

// A peer is lost or silent. Exit code 4; running the same command again resumes.
class CommError : public Error {
 public:
  using Error::Error;
};

// A loss or gradient is not finite. Exit code 5.
class NumericsError : public Error {
 public:
  using Error::Error;
};

// A tensor that is to become FP8 is not finite, on one rank.
class NotFiniteError : public NumericsError {
 public:
  using NumericsError::NumericsError;
};

// A bug of Strait's own. Exit code 1.
class InternalError : public Error {
 public:
  using Error::Error;
};

[[noreturn]] void throw_internal(const char* file, int line, const char* condition,
                                 const std::string& message);

}  // namespace strait

// STRAIT_CHECK(condition, "what was expected, with the values"): throws InternalError when false.
// The message is evaluated only on failure.
#define STRAIT_CHECK(condition, ...)                                                        \
  do {                                                                                      \
    if (!(condition)) [[unlikely]]                                                          \
      ::strait::throw_internal(__FILE__, __LINE__, #condition, ::std::string(__VA_ARGS__)); \
  } while (0)
