// launch/view/page_template.h: the page that shows traces, without its data: page/timeline.html
// with its styles and scripts in place. It refers to nothing outside itself.
#pragma once

namespace strait {

// Holds "<!--title-->" and "<!--traces-->" once each; write_html puts text in their places.
extern const char* const kPageTemplate;

}  // namespace strait
