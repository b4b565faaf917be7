package dev.toolkit.trainer.ui

import android.app.Activity
import android.graphics.Rect
import android.os.Build
import android.view.View
import android.view.ViewGroup
import android.view.WindowInsets

/**
 * Draws a screen from edge to edge. Its top and sides stay clear of the system's bars; what scrolls runs on below the bar at the
 * bottom and can be scrolled clear of it and of the keyboard, as can what is tagged so in the layout.
 */
object Edges {
    private const val BOTTOM = "bottom"

    @Suppress("DEPRECATION") // what does the same before Android 11, and, since Android 15, what is always so
    fun spread(screen: Activity) {
        val root = screen.requireViewById<ViewGroup>(android.R.id.content).getChildAt(0)
        val bottoms = ArrayList<Pair<View, Int>>()
        collect(root, bottoms)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
            screen.window.setDecorFitsSystemWindows(false)
        } else {
            root.systemUiVisibility = View.SYSTEM_UI_FLAG_LAYOUT_STABLE or View.SYSTEM_UI_FLAG_LAYOUT_FULLSCREEN or
                View.SYSTEM_UI_FLAG_LAYOUT_HIDE_NAVIGATION
        }
        root.setOnApplyWindowInsetsListener { _, insets ->
            val taken = taken(insets)
            root.setPadding(taken.left, taken.top, taken.right, 0)
            for ((view, own) in bottoms) view.setPadding(view.paddingLeft, view.paddingTop, view.paddingRight, own + taken.bottom)
            insets.consumeSystemWindowInsets()
        }
    }

    private fun collect(view: View, into: ArrayList<Pair<View, Int>>) {
        if (view.tag == BOTTOM) into += view to view.paddingBottom
        if (view is ViewGroup) for (index in 0 until view.childCount) collect(view.getChildAt(index), into)
    }

    private fun taken(insets: WindowInsets): Rect =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
            val kinds = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout() or WindowInsets.Type.ime()
            insets.getInsets(kinds).run { Rect(left, top, right, bottom) }
        } else {
            @Suppress("DEPRECATION")
            insets.run { Rect(systemWindowInsetLeft, systemWindowInsetTop, systemWindowInsetRight, systemWindowInsetBottom) }
        }
}
