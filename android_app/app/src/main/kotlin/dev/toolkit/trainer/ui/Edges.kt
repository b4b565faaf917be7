package dev.toolkit.trainer.ui

import android.app.Activity
import android.graphics.Rect
import android.os.Build
import android.view.View
import android.view.ViewGroup
import android.view.WindowInsets

/**
 * Draws a screen from edge to edge. Its top and sides stay clear of the system's bars; what scrolls runs on below the bar at the
 * bottom and can be scrolled clear of it, as can what is tagged so in the layout. The keyboard takes its height from the screen.
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
            val keyboard = keyboard(insets)
            // The screen ends above it: what scrolls becomes smaller, and brings the field that is typed into where it is seen.
            root.setPadding(taken.left, taken.top, taken.right, keyboard)
            val below = if (keyboard > 0) 0 else taken.bottom
            for ((view, own) in bottoms) view.setPadding(view.paddingLeft, view.paddingTop, view.paddingRight, own + below)
            insets.consumeSystemWindowInsets()
        }
    }

    private fun collect(view: View, into: ArrayList<Pair<View, Int>>) {
        if (view.tag == BOTTOM) into += view to view.paddingBottom
        if (view is ViewGroup) for (index in 0 until view.childCount) collect(view.getChildAt(index), into)
    }

    /** Height of the keyboard with the bar below it; 0 while there is none. */
    @Suppress("DEPRECATION") // before Android 11
    private fun keyboard(insets: WindowInsets): Int =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) insets.getInsets(WindowInsets.Type.ime()).bottom
        else insets.run { if (systemWindowInsetBottom > stableInsetBottom) systemWindowInsetBottom else 0 }

    private fun taken(insets: WindowInsets): Rect =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
            val kinds = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout()
            insets.getInsets(kinds).run { Rect(left, top, right, bottom) }
        } else {
            @Suppress("DEPRECATION")
            insets.run { Rect(systemWindowInsetLeft, systemWindowInsetTop, systemWindowInsetRight, systemWindowInsetBottom) }
        }
}
